// Makes an instance of a WebAssembly module of src. These modules import nothing.

/** Export of every module of src: its memory, which never grows. */
export interface WithMemory {
  readonly memory: { readonly buffer: ArrayBuffer };
}

/** The used part of the global; the types of Node.js lack it. */
declare const WebAssembly: {
  readonly Module: new (octets: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** Returns the exports of the module assembled in `octets`. The caller supplies their types, from the .wat file. */
export function instantiate<Exports extends WithMemory>(octets: Uint8Array): Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(octets)).exports as Exports;
}
