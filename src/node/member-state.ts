// The state of this member, for operators and for the packet path: its own phase, and its administrative state.
import type { AdminPhase } from '../orders/admin-state.ts';

/** The phase of the process itself. */
export type NodePhase = 'joining' | 'active' | 'isolated' | 'draining' | 'stopping';

export type NodeState = NodePhase | 'drained' | 'banned';

/**
 * |            | free, paused | draining | drained, handed-over | banned   |
 * |------------|--------------|----------|----------------------|----------|
 * | joining    | joining      | joining  | joining              | banned   |
 * | active     | active       | draining | drained              | banned   |
 * | isolated   | isolated     | draining | drained              | banned   |
 * | draining   | draining     | draining | draining             | draining |
 * | stopping   | stopping     | stopping | stopping             | stopping |
 *
 * A stop is stronger than an order, and a ban is stronger than the join.
 */
export function stateOf(phase: NodePhase, order: AdminPhase): NodeState {
  if (phase === 'stopping' || phase === 'draining') return phase;
  if (order === 'banned') return 'banned';
  if (phase === 'joining' || order === 'free' || order === 'paused') return phase;
  return order === 'draining' ? 'draining' : 'drained';
}

/** Clients on TCP are sent to other members. */
export function redirectsClients(state: NodeState): boolean {
  return state === 'draining' || state === 'drained' || state === 'banned';
}
