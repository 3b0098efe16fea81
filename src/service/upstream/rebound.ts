// Clients that have come back on a new connection: their dialogs' Record-Route names the old one. A request in the dialog brings that flow along, in
// the Route value that is meant for the server's side, so the owner learns where the client is now; requests for the client go there once the old
// connection is gone. Only within one call, and only to who sends with the tag that they are for: nobody can draw another's requests.
import type { Flow } from '../../ownership/flow.ts';

/** Calls with a client that has come back; the one that was heard of first is forgotten for a new one. */
const MAX_CALLS = 20_000;
/** Connections of one call. */
const MAX_OF_CALL = 4;

interface Rebinding {
  /** Of the connection that the dialog names. */
  readonly member: number;
  readonly incarnation: number;
  readonly connection: number;
  /** The client's tag. */
  readonly tag: string;
  flow: Readonly<Flow>;
  /** The member that held the old connection has said that it is gone. */
  lost: boolean;
}

export class Rebound {
  readonly #calls = new Map<number, Rebinding[]>();

  /**
   * A request in the dialog has come by `now`, from a client that the dialog looks for at `named`. `sure`: there is such a dialog; for others no
   * room is made. True when that was not known.
   */
  note(callKey: number, tag: string, named: Readonly<Flow>, now: Readonly<Flow>, sure: boolean): boolean {
    const known = this.#calls.get(callKey);
    const found = known?.find((each) => isOf(each, named) && each.tag === tag);
    if (found) {
      const changed = found.flow.connection !== now.connection || found.flow.member !== now.member;
      if (changed) found.flow = { ...now };
      return changed;
    }
    const { member, incarnation, connection } = named;
    const made = { member, incarnation, connection, tag, flow: { ...now }, lost: false };
    if (known) {
      if (known.length >= MAX_OF_CALL) return false;
      known.push(made);
      return true;
    }
    if (this.#calls.size >= MAX_CALLS) {
      if (!sure) return false;
      this.#calls.delete(this.#calls.keys().next().value ?? 0);
    }
    this.#calls.set(callKey, [made]);
    return true;
  }

  /** Is there a call whose client has come back? */
  get some(): boolean {
    return this.#calls.size > 0;
  }

  /** Where the client of `tag` is now; undefined when it is not known to be elsewhere than `named`. `gone`: that connection is known to be gone. */
  wayTo(callKey: number, tag: string, named: Readonly<Flow>, gone: boolean): Readonly<Flow> | undefined {
    const found = this.#calls.get(callKey)?.find((each) => isOf(each, named) && each.tag === tag);
    return found && (gone || found.lost) ? found.flow : undefined;
  }

  /** A request of the call has been answered 430 (RFC 5626 11.4): what is known to be elsewhere is not where it was. */
  failed(callKey: number): void {
    for (const each of this.#calls.get(callKey) ?? []) each.lost = true;
  }
}

function isOf(each: Rebinding, flow: Readonly<Flow>): boolean {
  return each.connection === flow.connection && each.member === flow.member && each.incarnation === flow.incarnation;
}
