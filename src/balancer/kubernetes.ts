// Writes a Kubernetes Service without selector. Its endpoints are the members; MetalLB or Cilium provides the VIP.
import { isIpv6 } from '../base/endpoint.ts';
import type { BalancerPlan } from './plan.ts';

const prefix = (vip: string): string => `${vip}/${isIpv6(vip) ? 128 : 32}`;

/** Returns Service and EndpointSlice. */
export function renderService(plan: BalancerPlan): string {
  const { farm, vip, services, members } = plan;
  const ports = services.map(
    ({ transport, port, targetPort }) => `  - name: sip-${transport}-${port}
    protocol: ${transport.toUpperCase()}
    port: ${port}
    targetPort: ${targetPort}
`,
  );
  const slicePorts = services.map(
    ({ transport, port, targetPort }) => `- name: sip-${transport}-${port}
  protocol: ${transport.toUpperCase()}
  port: ${targetPort}
`,
  );
  const endpoints = members.map(
    ({ id, address }) => `# ${id}
- addresses: ["${address}"]
  nodeName: ${JSON.stringify(id)}
  conditions: { ready: true }
`,
  );
  return `# The farm ${farm} behind one Service.
# Members are pods with hostNetwork, one per node, or hosts outside the cluster.
# On the members: balancer.mode nat, answer ingress, advertise ${vip}.
apiVersion: v1
kind: Service
metadata:
  name: sipfarm-${farm}
  annotations:
    # One for MetalLB, one for Cilium.
    metallb.io/loadBalancerIPs: "${vip}"
    lbipam.cilium.io/ips: "${vip}"
spec:
  type: LoadBalancer
  # ClientIP would bind each client to a member.
  sessionAffinity: None
  # Keeps the client's address. Each node sends to its own member only, so all nodes must announce the VIP (BGP).
  externalTrafficPolicy: Local
  ipFamilies: [${isIpv6(vip) ? 'IPv6' : 'IPv4'}]
  ports:
${ports.join('')}---
# The Service has no selector, so these are the endpoints. Render them again when members come or go.
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: sipfarm-${farm}-1
  labels:
    kubernetes.io/service-name: sipfarm-${farm}
    endpointslice.kubernetes.io/managed-by: sipfarm
addressType: ${isIpv6(vip) ? 'IPv6' : 'IPv4'}
ports:
${slicePorts.join('')}endpoints:
# nodeName is the member's name, which is the host's name by default; externalTrafficPolicy Local needs it.
${endpoints.join('')}`;
}

/** Returns the VIP's resources for MetalLB. */
export function renderMetallb({ farm, vip }: BalancerPlan): string {
  return `apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata:
  name: sipfarm-${farm}
  namespace: metallb-system
spec:
  addresses: ["${prefix(vip)}"]
  # Only for the Service that requests it.
  autoAssign: false
---
# BGP: the router spreads over all nodes. With an L2Advertisement one node receives all packets.
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata:
  name: sipfarm-${farm}
  namespace: metallb-system
spec:
  ipAddressPools: [sipfarm-${farm}]
`;
}

/** Returns the VIP's resources for Cilium. */
export function renderCilium({ farm, vip }: BalancerPlan): string {
  return `# Settings of Cilium: kubeProxyReplacement true, bgpControlPlane.enabled true.
# With loadBalancer.mode dsr the Service may have externalTrafficPolicy Cluster: the client's address is kept, too.
apiVersion: cilium.io/v2alpha1
kind: CiliumLoadBalancerIPPool
metadata:
  name: sipfarm-${farm}
spec:
  blocks:
  - cidr: "${prefix(vip)}"
  serviceSelector:
    matchExpressions:
    - { key: io.kubernetes.service.name, operator: In, values: [sipfarm-${farm}] }
---
apiVersion: cilium.io/v2alpha1
kind: CiliumBGPAdvertisement
metadata:
  name: sipfarm-${farm}
  labels:
    advertise: sipfarm-${farm}
spec:
  advertisements:
  - advertisementType: Service
    service:
      addresses: [LoadBalancerIP]
    selector:
      matchExpressions:
      - { key: io.kubernetes.service.name, operator: In, values: [sipfarm-${farm}] }
`;
}
