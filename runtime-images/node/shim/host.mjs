/**
 * What the JavaScript engines that this shim runs on do not have in common. Node's ways are the default;
 * runtime-images/bun and runtime-images/deno put theirs in their place before they load main.mjs.
 */

/**
 * A server of the engine's own kind (Bun.serve, Deno.serve) that the function has started: it gets no port.
 * `web`: its handler takes a Request, and may make a WebSocket of it.
 * @typedef {{ listening: boolean, handle: import('./forms.mjs').Handle, web: true }} WebServer
 */

export const host = {
  /** `console` does not write to process.stdout and process.stderr: it is replaced by one that does. */
  replaceConsole: false,
  /** A module without handler that seems to have nothing left to do for so long will not call listen any more, ms. */
  idleBeforeNoHandlerMs: 100,
  /** Called when the instance has less memory than its class: garbage is to be collected early. */
  growSlowly: () => process.getBuiltinModule('node:v8').setFlagsFromString('--heap-growing-percent=20'),
  /**
   * Called once the function's code is loaded: its heap is to be filled densely. V8 learns which code makes what lives long, and puts
   * all that this code makes into the old space at once, what it needs for a moment only, too. Of a heap full of small objects an
   * eighth was then holes, too small for an array, and an instance of 512 MiB did not hold 400. Not before the code is loaded:
   * V8 takes no code cache that was made with other flags, its own modules' neither, which costs 30 ms.
   */
  fillDensely: () => process.getBuiltinModule('node:v8').setFlagsFromString('--no-allocation-site-pretenuring'),
  /** Called once, before the function's code is loaded: the engine's own ways to serve become ours. */
  captureServe: () => {},
  /**
   * Called once, where the function is not to hear of SIGTERM at once: what it gives to the engine's own functions goes into this set.
   * @type {(listeners: Set<() => void>) => void}
   */
  deferSignals: () => {},
  /**
   * Looks at the exports before anything else does; may start a server of the engine's own kind. True where it did.
   * @type {(module: Record<string, any>) => boolean}
   */
  startsServer: () => false,
  /**
   * An error as Node would have told it: syntax errors have names and places of their own in each engine.
   * @type {(error: unknown) => unknown}
   */
  normalise: (error) => error,
};
