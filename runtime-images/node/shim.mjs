import './shim/main.mjs';
