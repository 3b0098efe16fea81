// The WebAssembly modules of src, generated from their text.
import wabt from 'wabt';

/** Text and generated TypeScript module; paths from the root of the project. */
export const wasmModules = [
  { text: 'src/base/siphash.wat', module: 'src/base/siphash-wasm.ts' },
  { text: 'src/sip/lines.wat', module: 'src/sip/lines-wasm.ts' },
] as const;

/** Returns the TypeScript module with the assembled `source` of the file `text`. */
export async function assemble(text: string, source: string): Promise<string> {
  const module = (await wabt()).parseWat(text, source);
  const { buffer } = module.toBinary({});
  module.destroy();
  const lines =
    Buffer.from(buffer)
      .toString('base64')
      .match(/.{1,116}/g) ?? [];
  const name = text.split('/').at(-1);
  return [
    `// The assembled ${name}. Written by \`npm run wasm\`; change the text, not this.`,
    'export const WASM = Buffer.from(',
    '  `',
    ...lines.map((line) => `  ${line}`),
    '  `,',
    "  'base64',",
    ');',
    '',
  ].join('\n');
}
