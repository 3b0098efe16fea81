// The part of the npm package dns-packet that test/fake/dns.ts uses; the package has no types.
declare module 'dns-packet' {
  export interface Question {
    readonly type: string;
    readonly name: string;
  }
  export interface Message {
    readonly id?: number;
    readonly type?: 'query' | 'response';
    readonly flags?: number;
    readonly questions?: readonly Question[];
    readonly answers?: readonly {
      readonly type: string;
      readonly name: string;
      readonly ttl: number;
      readonly data: unknown;
    }[];
  }
  const packet: {
    readonly AUTHORITATIVE_ANSWER: number;
    readonly RECURSION_AVAILABLE: number;
    encode(message: Message): Buffer;
    decode(bytes: Buffer): Message;
  };
  export default packet;
}
