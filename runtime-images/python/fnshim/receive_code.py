"""POST code: the files of the bundle as they come, written below FN_CODE.

Where anything is wrong with them, what was written is removed. Writes are synchronous: an instance that waits for its
code has nothing else to do but to answer health, which it does between two pieces.
"""

import errno
import json
import os
import shutil

from .limits import MAX_CODE_BYTES, MAX_CODE_FILES, MAX_CODE_FOLDERS, MAX_CODE_INDEX_BYTES, MAX_CODE_PATH

# What the file system says where a limit of its own is reached, and where it cannot have such a name.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class BadCode(Exception):
    """What is wrong with the body: `status` is what it is answered with, 413 or 422."""

    def __init__(self, status, detail):
        super().__init__(detail)
        self.status = status


class CodeFolder:
    """Where the code of this instance goes, once. `folder`: FN_CODE; None where code does not come over the network."""

    def __init__(self, folder):
        self._folder = folder
        # none, receiving, received
        self.phase = "none"

    @property
    def expected(self):
        return bool(self._folder)

    async def receive(self, request, wanted):
        """{"files", "bytes"}; None where `wanted()` says no when all is there.

        Raises BadCode, OSError, or ClientGone where the body stops in the middle. Then there is nothing of it.
        """
        self.phase = "receiving"
        length = None if request.head.chunked else request.head.length
        writer = _Writer(self._folder, length)
        kept = False
        try:
            while piece := await request.body.read():
                writer.push(piece)
            writer.end()
            if not wanted():
                return None
            writer.seal()
            kept = True
            return writer.received
        except OSError as error:
            problem = _in_words(error)
            if problem is None:
                raise
            raise problem from error
        finally:
            if not kept:
                writer.remove()
            self.phase = "received" if kept else "none"


def _in_words(error):
    name = errno.errorcode.get(error.errno, "")
    if error.errno in _NO_ROOM:
        return BadCode(413, f"there is no room for the code ({name})")
    if error.errno in _NO_NAME:
        return BadCode(422, f"the file system cannot have such a path ({name})")
    return None


class _Writer:
    """Takes the body apart: a line of JSON (CodeIndex of the contract), then the bytes of its files."""

    def __init__(self, folder, length):
        self._folder = folder
        # Of the whole body, where it is said.
        self._length = length
        # The line as far as it came; None once it was read.
        self._line = bytearray()
        self._files = []
        self._next = 0
        # The file that is open, and what it still lacks, bytes.
        self._file = None
        self._left = 0
        self._bytes = 0
        # Folders of the code, parents first, and what was made directly in the folder.
        self._folders = {}
        self._made = set()

    @property
    def received(self):
        return {"files": len(self._files), "bytes": self._bytes}

    def push(self, piece):
        rest = memoryview(piece if self._line is None else self._index(piece))
        while len(rest) > 0:
            if self._file is None:
                raise BadCode(422, "the body is longer than its files")
            written = os.write(self._file, rest[: self._left])
            rest = rest[written:]
            self._left -= written
            if self._left == 0:
                self._open()

    def end(self):
        """The body is complete."""
        if self._line is not None:
            raise BadCode(422, "the body has no line that lists its files")
        if self._file is not None:
            raise BadCode(422, "the body ends before its files do")

    def seal(self):
        """Nothing is to be changed any more, not by accident either.

        The folder itself may be a mount of somebody else's: then it stays as it is.
        """
        for folder in self._folders:
            os.chmod(self._path(folder), 0o555)
        try:
            os.chmod(self._folder, 0o555)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EROFS):
                raise

    def remove(self):
        self._close()
        for folder in self._folders:
            if os.path.isdir(self._path(folder)):
                os.chmod(self._path(folder), 0o755)
        for name in self._made:
            path = self._path(name)
            if os.path.isdir(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def _path(self, relative):
        return os.path.join(self._folder, relative)

    def _index(self, piece):
        """Returns what comes after the line."""
        part, end, rest = piece.partition(b"\n")
        self._line += part
        if len(self._line) > MAX_CODE_INDEX_BYTES:
            raise BadCode(413, f"the list of files is over {MAX_CODE_INDEX_BYTES} bytes")
        if not end:
            return b""
        files = _parse_index(bytes(self._line))
        self._bytes = _check_sizes(files)
        self._folders = _check_paths(files)
        expected = len(self._line) + 1 + self._bytes
        if self._length is not None and self._length != expected:
            raise BadCode(422, f"the files have {expected} bytes with their list, the body has {self._length}")
        self._line = None
        self._files = files
        for folder in self._folders:
            os.mkdir(self._path(folder), 0o755)
            self._made.add(folder.partition("/")[0])
        self._open()
        return rest

    def _open(self):
        """The next file that has bytes to come; those without are made at once."""
        self._close()
        while self._next < len(self._files):
            path, size, executable = self._files[self._next]
            self._next += 1
            self._file = os.open(self._path(path), _CREATE, 0o555 if executable else 0o444)
            self._made.add(path.partition("/")[0])
            self._left = size
            if size > 0:
                return
            self._close()

    def _close(self):
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _parse_index(line):
    """(path, size, executable) of each."""
    try:
        index = json.loads(line)
    except (ValueError, RecursionError):
        raise BadCode(422, "the list of files is not JSON") from None
    listed = index.get("files") if isinstance(index, dict) else None
    if not isinstance(listed, list):
        raise BadCode(422, 'the list of files is not {"files": [...]}')
    if len(listed) > MAX_CODE_FILES:
        raise BadCode(413, f"there are more than {MAX_CODE_FILES} files")
    files = []
    for file in listed:
        if not isinstance(file, dict):
            file = {}
        path, size, executable = file.get("path"), file.get("size"), file.get("executable", False)
        whole = isinstance(size, int) and not isinstance(size, bool) and size >= 0
        if not isinstance(path, str) or not whole or not isinstance(executable, bool):
            raise BadCode(422, 'a file of the list is not {"path": text, "size": bytes, "executable"?: boolean}')
        files.append((path, size, executable))
    return files


def _check_sizes(files):
    """Their sum."""
    total = sum(size for _, size, _ in files)
    if total > MAX_CODE_BYTES:
        raise BadCode(413, f"the files have more than {MAX_CODE_BYTES} bytes")
    return total


def _check_paths(files):
    """The folders that they are in, as keys, parents first."""
    paths = set()
    folders = {}
    for path, _, _ in files:
        shown = json.dumps(path[:100])
        segments = path.split("/")
        if len(path) > MAX_CODE_PATH or "\0" in path or not _is_text(path) or any(segment in ("", ".", "..") for segment in segments):
            raise BadCode(422, f"{shown} is no path of a file in a bundle")
        if path in paths:
            raise BadCode(422, f"{shown} is in the list twice")
        paths.add(path)
        end = path.find("/")
        while end >= 0:
            folders[path[:end]] = None
            end = path.find("/", end + 1)
        if len(folders) > MAX_CODE_FOLDERS:
            raise BadCode(413, f"there are more than {MAX_CODE_FOLDERS} folders")
    for folder in folders:
        if folder in paths:
            raise BadCode(422, f"{json.dumps(folder[:100])} is a file and a folder")
    return folders


def _is_text(path):
    """JSON can carry halves of characters, which no name of a file can have."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
