// The part of npm siphash that the tests use; the package ships no types.
declare module 'siphash' {
  const siphash: { hash(key: Uint32Array, message: Uint8Array): { readonly h: number; readonly l: number } };
  export default siphash;
}
