/** Functions of one manifest that would take requests from each other: the platform would refuse the second when the first is live. */
import { routeText } from '#contract/access.ts';
import { DEFAULT_NAMESPACE } from '#contract/names.ts';
import { clash, shadowed } from '#contract/route-order.ts';
import type { ResolvedFunction } from './resolve.ts';
import type { Fault } from './text.ts';

type Routed = Pick<ResolvedFunction, 'namespace' | 'name' | 'access' | 'routeFault'>;

/** A fault for each route that is for the requests of another function, as the controller's checkRoutes has it. All are of one namespace. */
export function clashes(functions: readonly Routed[]): Fault[] {
  return functions.flatMap((one, at) =>
    one.access.routes.flatMap((route, index): Fault[] => {
      const twin = functions.slice(0, at).find(({ access }) => access.routes.some((other) => clash(other, route)));
      if (twin !== undefined) return [one.routeFault(index, `${routeText(route)} is a route of ${twin.name} already`)];
      if (one.namespace !== DEFAULT_NAMESPACE) return [];
      const shadow = functions.find((other) => other !== one && shadowed(route) === other.name);
      return shadow === undefined
        ? []
        : [one.routeFault(index, `/${shadow.name} and all below it is the function ${shadow.name}'s already`)];
    }),
  );
}
