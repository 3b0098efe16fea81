// Who is who in the laboratory: hosts, addresses, and the ways of its balancer. Those of balancer and members are those of deploy/lb-examples.

/**
 * How packets for the VIP reach the members: rewritten one by one (nat), rewritten by sessions, so that each client port is bound to one member
 * (session), same packet to another MAC (dsr), same packet through a tunnel across a router (tunnel), or no balancer at all (none).
 */
export type Mode = 'nat' | 'session' | 'dsr' | 'tunnel' | 'none';
/** A host of the laboratory. */
export type Host = 'c' | 'lb' | 'sw' | 'r' | EtcdHost | 'k' | `m${number}`;
/** A host for one server of etcd each; most farms have but the first. */
export type EtcdHost = 'e' | 'e2' | 'e3';

export const VIP = '198.51.100.1';
export const VIP6 = '2001:db8:51::1';
export const ETCD: Readonly<Record<EtcdHost, string>> = { e: '10.0.0.31', e2: '10.0.0.32', e3: '10.0.0.33' };
export const SHARED_SERVER = '10.0.0.40';
export const MEMBERS = [1, 2, 3, 4] as const;
/** The balancer's own address and MAC address towards the members, and its devices: FRONT to the clients, BACK to the members. */
export const BALANCER = '10.0.0.1';
export const BALANCER_MAC = '00:00:5e:00:53:01';
export const FRONT = 'fr';
export const BACK = 'bk';
/** True where the VIP is on the members and answers go from them straight to the client. */
export const isDirectReturn = (mode: Mode): boolean => mode === 'dsr' || mode === 'tunnel';

/** Address of the i-th client, 0 to 19. */
export const clientAddress = (i: number): string => `203.0.113.${10 + i}`;
export const clientAddress6 = (i: number): string => `2001:db8:c::${10 + i}`;
/** Own address of member k, 1 to 4. */
export const memberAddress = (k: number): string => `10.0.0.1${k}`;
export const memberAddress6 = (k: number): string => `fd09::1${k}`;
/** Where a client sends to: the VIP, or member 1 when there is no balancer. */
export const entrance = (mode: Mode): string => (mode === 'none' ? memberAddress(1) : VIP);
export const entrance6 = (mode: Mode): string => (mode === 'none' ? memberAddress6(1) : VIP6);
export const memberMac = (k: number): string => `00:00:5e:00:53:1${k}`;
