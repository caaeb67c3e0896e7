import type { CommandSpec, Input } from '../command.ts';
import { HOME_OPTION, JSON_OPTION, integerBetween } from '../command.ts';
import type { Context } from '../context.ts';
import { painter, printJson } from '../context.ts';
import type { ExitCode } from '../errors.ts';
import { EXIT } from '../errors.ts';
import { DEFAULT_PORT, storeUrl } from './up.ts';

export const doctor: CommandSpec = {
  name: 'doctor',
  summary: 'check this machine, and say what to do',
  options: [
    {
      flags: '--port <port>',
      description: `port that the gateway is to have (default: that of the running one, else ${DEFAULT_PORT})`,
      parse: integerBetween(1, 65_535),
    },
    {
      flags: '--store <store>',
      description: 'store to look at (default: that of the running platform, else FN_STORE); a password belongs in FN_STORE',
      parse: storeUrl,
    },
    HOME_OPTION,
    JSON_OPTION,
  ],
  examples: ['fn doctor', 'fn doctor --port 80 --json'],
  run,
};

async function run(ctx: Context, input: Input): Promise<ExitCode> {
  const { examine } = await import('../doctor/examine.ts');
  const { renderFindings } = await import('../doctor/finding.ts');
  const findings = await examine({ env: ctx.env, home: ctx.home, port: input.number('port'), store: input.text('store') });
  const failed = findings.some((finding) => finding.level === 'fail');
  if (input.flag('json')) printJson(ctx, { ok: !failed, findings });
  else ctx.stdout.write(renderFindings(findings, painter(ctx.stdout, ctx.env)));
  return failed ? EXIT.failed : EXIT.ok;
}
