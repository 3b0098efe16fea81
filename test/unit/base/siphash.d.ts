// The part of the npm package siphash that the tests use; the package has no types.
declare module 'siphash' {
  const siphash: { hash(key: Uint32Array, message: Uint8Array): { readonly h: number; readonly l: number } };
  export default siphash;
}
