/** CommonJS, as older code has it: module.exports, require, __dirname. */
const { createHash } = require('node:crypto');
const { join } = require('node:path');

exports.GET = (request) => {
  const { pathname } = new URL(request.url);
  return Response.json({ sha256: createHash('sha256').update(pathname).digest('hex'), file: join(__dirname, 'index.cjs') });
};
