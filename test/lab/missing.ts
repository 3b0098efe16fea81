// Tools that the host lacks for the laboratory, found by test/run.ts. A test that needs one is skipped with its name,
// or fails under CI=true.

const { SIPFARM_MISSING = '', CI } = process.env;
const missing = SIPFARM_MISSING.split(',').filter((name) => name !== '');

/** Returns the value for the `skip` option of a test: false, or the reason. With CI=true nothing is ever skipped. */
export function without(...tools: readonly string[]): string | false {
  const lacking = tools.filter((tool) => missing.includes(tool));
  if (lacking.length === 0 || CI === 'true') return false;
  return `needs ${lacking.join(', ')}`;
}

/** Tools that every laboratory needs. */
export const LAB_TOOLS = ['namespaces', 'ip', 'nft', 'sipp'] as const;
