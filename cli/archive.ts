/** Bundles are packed the same way here and where functions are declared. */
export { EXECUTABLE_MODE, FILE_MODE, archive, type Archive, type ArchiveFile } from '#kit/archive.ts';
