// Hosts, addresses and balancer modes of the laboratory. Addresses of balancer and members are those of
// deploy/lb-examples.

/**
 * Path of packets for the VIP to the members. nat: each rewritten. session: rewritten by sessions, so that each client
 * port is bound to one member. dsr: the same packet to another MAC. tunnel: the same packet through a tunnel across a
 * router. none: no balancer.
 */
export type Mode = 'nat' | 'session' | 'dsr' | 'tunnel' | 'none';
/** A host of the laboratory. */
export type Host = 'c' | 'lb' | 'sw' | 'r' | EtcdHost | 'k' | `m${number}`;
/** A host for one server of etcd each; most farms use only the first. */
export type EtcdHost = 'e' | 'e2' | 'e3';

export const VIP = '198.51.100.1';
export const VIP6 = '2001:db8:51::1';
export const ETCD: Readonly<Record<EtcdHost, string>> = { e: '10.0.0.31', e2: '10.0.0.32', e3: '10.0.0.33' };
export const SHARED_SERVER = '10.0.0.40';
export const MEMBERS = [1, 2, 3, 4] as const;
/**
 * IP and MAC address of the balancer towards the members, and its devices: FRONT to the clients, BACK to the members.
 */
export const BALANCER = '10.0.0.1';
export const BALANCER_MAC = '00:00:5e:00:53:01';
export const FRONT = 'fr';
export const BACK = 'bk';
/** True where the VIP is on the members and answers go from them directly to the client. */
export const isDirectReturn = (mode: Mode): boolean => mode === 'dsr' || mode === 'tunnel';

/** Returns the address of the i-th client, 0 to 19. */
export const clientAddress = (i: number): string => `203.0.113.${10 + i}`;
export const clientAddress6 = (i: number): string => `2001:db8:c::${10 + i}`;
/** Returns the own address of member k, 1 to 4. */
export const memberAddress = (k: number): string => `10.0.0.1${k}`;
export const memberAddress6 = (k: number): string => `fd09::1${k}`;
/** Returns the target address of clients: the VIP, or member 1 when there is no balancer. */
export const entrance = (mode: Mode): string => (mode === 'none' ? memberAddress(1) : VIP);
export const entrance6 = (mode: Mode): string => (mode === 'none' ? memberAddress6(1) : VIP6);
export const memberMac = (k: number): string => `00:00:5e:00:53:1${k}`;
