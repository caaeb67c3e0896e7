import { sleep } from '#kit/clock.ts';
import { messageOf, type EngineContext } from './context.ts';

/** A kill that fails is tried so often while the controller ends: then destroyAll or the next controller does it. */
const MAX_KILLS_AT_END = 3;
/** Between attempts to kill, at most, ms. */
const MAX_KILL_PAUSE_MS = 10_000;
const MAX_KILL_PAUSE_AT_END_MS = 100;
/** Who leads no more ends within moments; until then it is looked again whether it does after all, ms. */
const LOOK_AGAIN_MS = 100;

/**
 * Kills, for as long as it takes: an instance must not be forgotten. False where the controller ends first. One that leads no
 * more kills nothing: it may have been frozen, and wakes with what it had in mind, and the instance serves another by now.
 */
export async function killForGood({ driver, log, leads }: EngineContext, id: string, ending: () => boolean): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    while (!leads()) {
      if (ending()) return false;
      await sleep(LOOK_AGAIN_MS);
    }
    try {
      await driver.kill(id);
      return true;
    } catch (error) {
      log.error({ instance: id, attempt, error: messageOf(error) }, 'an instance could not be killed; trying again');
      if (ending() && attempt >= MAX_KILLS_AT_END) return false;
      await sleep(Math.min(ending() ? MAX_KILL_PAUSE_AT_END_MS : MAX_KILL_PAUSE_MS, 100 * 2 ** Math.min(attempt, 10)));
    }
  }
}
