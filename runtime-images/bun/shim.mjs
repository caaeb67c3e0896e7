// The shim is node's, on Bun's node:http; what Bun does in its own way is put in first.
import './host.mjs';
import '../node/shim/main.mjs';
