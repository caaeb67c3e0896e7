/** What all commands about images take. Apart from what they do: every command line loads this. */
import type { Input, OptionSpec } from './command.ts';

export const IMAGES_ARGUMENT = {
  name: 'images',
  description: 'which, between commas, such as gateway,controller,node; without: those of fn itself, and node',
  optional: true,
} as const;

export const ALL_OPTION: OptionSpec = { flags: '--all', description: 'every image that there is' };

export const BASE_OPTION: OptionSpec = {
  flags: '--base <image>',
  description: 'root filesystem: an image from a registry, instead of Debian packages',
};

/** Which images a command line means. */
export interface ChosenImages {
  /** Names, between commas. */
  names: string | undefined;
  all: boolean;
  /** What they are built upon. */
  base: string | undefined;
}

/** `index`: of the argument that names them. */
export const chosenImages = (input: Input, index = 0): ChosenImages => ({
  names: input.optionalArg(index),
  all: input.flag('all'),
  base: input.text('base'),
});
