#!/usr/bin/env node
// Looks at the age of Node.js before anything modern is loaded; therefore in old syntax.
var version = process.versions.node.split('.').map(Number);
if (version[0] < 22 || (version[0] === 22 && version[1] < 12)) {
  console.error(
    'SF_NODE_TOO_OLD: sipfarm needs Node.js 22.12 or newer, this is ' +
      process.versions.node +
      '. Install Node 24 (LTS), or use npm start, which brings it.',
  );
  process.exit(1);
} else {
  import('../dist/main.js').catch((error) => {
    console.error(
      error.code === 'ERR_MODULE_NOT_FOUND'
        ? `SF_INTERNAL: sipfarm is not built; run npm run build first. ${error.message}`
        : error,
    );
    process.exit(1);
  });
}
