// Makes an instance of one of the WebAssembly modules of src, which need nothing from outside.

/** What every module of src lends: its memory, which never grows. */
export interface WithMemory {
  readonly memory: { readonly buffer: ArrayBuffer };
}

/** The part of the global that is used here; the types of Node.js do not have it. */
declare const WebAssembly: {
  readonly Module: new (octets: Uint8Array) => object;
  readonly Instance: new (module: object) => { readonly exports: unknown };
};

/** The exports of the module assembled in `octets`; the caller knows their types from the text beside it. */
export function instantiate<Exports extends WithMemory>(octets: Uint8Array): Exports {
  return new WebAssembly.Instance(new WebAssembly.Module(octets)).exports as Exports;
}
