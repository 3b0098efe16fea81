// The part of the npm package sip that the tests use; the package has no types.
declare module 'sip' {
  const sip: { parse(text: string): unknown };
  export default sip;
}
