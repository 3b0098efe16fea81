// What a WebAssembly module of src looks like, made of its text.
import wabt from 'wabt';

/** Text in, TypeScript module out; paths from the root of the project. */
export const wasmModules = [
  { text: 'src/base/siphash.wat', module: 'src/base/siphash-wasm.ts' },
  { text: 'src/sip/lines.wat', module: 'src/sip/lines-wasm.ts' },
] as const;

/** The TypeScript module that holds the assembled `source` of the file `text`. */
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
