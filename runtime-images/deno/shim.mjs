// The shim is node's, on Deno's node:http; what Deno does in its own way is put in first.
import './host.mjs';
import '../node/shim/main.mjs';
