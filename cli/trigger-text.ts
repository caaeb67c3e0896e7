/** Triggers and destinations as a person reads them, in a few words. URLs hold no passwords, only names of secrets. */
import type { Destination } from '#contract/events.ts';
import type { Trigger } from '#contract/trigger.ts';

/** `cron 0 7 * * 1 (Europe/Berlin)`, `redis-stream orders at redis://…` */
export function triggerText(trigger: Trigger): string {
  switch (trigger.type) {
    case 'cron':
      return `cron ${trigger.schedule}${trigger.timezone === 'UTC' ? '' : ` (${trigger.timezone})`}`;
    case 'webhook':
      return `webhook, ${trigger.verify.scheme === 'none' ? 'unsigned' : `signed as ${trigger.verify.scheme} has it`}`;
    case 'kafka':
      return `kafka ${trigger.topic} at ${trigger.brokers.join(',')}`;
    case 'redis-stream':
    case 'nats':
      return `${trigger.type} ${trigger.stream} at ${trigger.url}`;
    case 'redis-list':
      return `redis-list ${trigger.list} at ${trigger.url}`;
    case 'rabbitmq':
      return `rabbitmq ${trigger.queue} at ${trigger.url}`;
    case 'mqtt':
      return `mqtt ${trigger.topic} at ${trigger.url}`;
  }
}

/** `function report-failures`, `webhook https://…` */
export function destinationText(to: Destination): string {
  switch (to.type) {
    case 'function':
      return `function ${to.name}`;
    case 'webhook':
      return `webhook ${to.url}`;
    case 'redis-stream':
      return `redis-stream ${to.stream} at ${to.url}`;
    case 'redis-list':
      return `redis-list ${to.list} at ${to.url}`;
    case 'rabbitmq':
      return `rabbitmq ${to.exchange === '' ? to.routingKey : `${to.exchange}/${to.routingKey}`} at ${to.url}`;
    case 'nats':
      return `nats ${to.subject} at ${to.url}`;
    case 'mqtt':
      return `mqtt ${to.topic} at ${to.url}`;
    case 'kafka':
      return `kafka ${to.topic} at ${to.brokers.join(',')}`;
  }
}
