/** What the suites take for granted of the cluster that they run in. */
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { useCluster } from '../helpers/cluster.ts';
import { nodeImage } from '../helpers/runtime-images.ts';

const Pod = z.object({ status: z.object({ podIP: z.string(), phase: z.string() }) });

describe('the cluster', () => {
  const cluster = useCluster();

  it('runs a pod of an image of this machine, in a namespace of the test', async () => {
    const image = await nodeImage();
    await cluster().loadImages(image);
    const namespace = await cluster.namespace('cluster');
    await cluster().apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'hello', namespace },
      spec: {
        restartPolicy: 'Never',
        automountServiceAccountToken: false,
        containers: [
          { name: 'hello', image, args: ['-e', "console.log('hello from ' + process.version)"], command: ['/usr/local/bin/node'] },
        ],
      },
    });
    await expect.poll(() => cluster().kubectl(['logs', 'hello', '-n', namespace]), { timeout: 60_000 }).toMatch(/^hello from v24/);
    expect((await cluster().get(Pod, ['pod', 'hello', '-n', namespace])).status.podIP).toMatch(/^[0-9a-f.:]+$/);
  });
});
