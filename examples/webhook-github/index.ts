/**
 * Gets GitHub's webhooks as events. The platform has checked their signature, stored them before it answered, and
 * sorted out those that GitHub delivered twice; what throws here is tried again.
 */
import type { MessageBatch } from 'fn';

/** What is used of the payload of `push`. */
interface Push {
  ref?: string;
  repository?: { full_name?: string };
  commits?: readonly { message?: string }[];
}

const pushes: { repository: string; branch: string; commits: number }[] = [];

export default {
  queue(batch: MessageBatch<Push>): void {
    for (const { body, id } of batch.messages) {
      const repository = body.repository?.full_name;
      // GitHub's first event is a ping, which has no branch.
      if (repository === undefined || body.ref === undefined) continue;
      console.log(`${repository} ${body.ref} (delivery ${id})`);
      pushes.push({ repository, branch: body.ref.replace('refs/heads/', ''), commits: body.commits?.length ?? 0 });
    }
  },

  fetch: (): Response => Response.json({ pushes }),
};
