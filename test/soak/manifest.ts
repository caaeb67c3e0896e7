/** What is deployed for a soak: a function for each way of using the platform. */

/** How often the clock of the worker ticks, ms. */
export const TICK_MS = 5_000;
export const WORKER = 'worker';
export const STREAM = 'soak';

/** fn.yaml of the soak. What is kept is kept so short that two hours show a plateau, and not only the way to it. */
export const manifest = (redis: string): string => `
defaults: { memory: 128Mi, timeout: 20s, logs: { maxBytes: 256Ki, maxAge: 5m } }
functions:
  steady: { entry: ./traffic.ts, keepAlive: 1h, memory: 256Mi, max: 3 }
  mortal: { entry: ./traffic.ts, keepAlive: 1h, max: 2 }
  chilly: { entry: ./traffic.ts, keepAlive: 1s, max: 2 }
  moving: { entry: ./traffic.ts, keepAlive: 1h, max: 2, env: { VERSION: 0 } }
  hungry: { entry: ./traffic.ts, keepAlive: 10s, max: 1 }
  keeper: { entry: ./traffic.ts, keepAlive: 1h, max: 2, secrets: [SOAK_SECRET] }
  ${WORKER}:
    entry: ./worker.ts
    keepAlive: 1m
    max: 3
    logs: { maxBytes: 4Mi, maxAge: 15m }
    async: { maxAttempts: 3, retryBaseSeconds: 0.2, retryMaxSeconds: 2, resultSeconds: 300, deadLetterSeconds: 600 }
    triggers:
      - { name: stream, type: redis-stream, url: "${redis}", stream: ${STREAM}, startFrom: beginning, batchSize: 10, batchWindow: 200ms, maxAttempts: 3, retryBaseSeconds: 0.2, retryMaxSeconds: 2, deadLetterSeconds: 600 }
      - { name: clock, type: cron, schedule: '*/5 * * * * *', missed: all, deadLetterSeconds: 600 }
`;
