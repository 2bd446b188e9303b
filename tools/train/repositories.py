"""Fetches files of a Git repository at one commit, and no others."""

import subprocess


def fetched(source, folder):
    """Check the files of a source and its notice out into a folder; only these are downloaded. A source has a url, the commit,
    which fixes what the files contain, and the files' paths."""
    git(folder, "init", "--quiet")
    git(folder, "config", "gc.auto", "0")
    git(folder, "remote", "add", "origin", source["url"])
    # A partial clone: the trees of the commit now, contents when they are checked out.
    git(folder, "config", "remote.origin.promisor", "true")
    git(folder, "config", "remote.origin.partialclonefilter", "blob:none")
    git(folder, "fetch", "--quiet", "--depth", "1", "origin", source["commit"])
    paths = [*source["files"], source["notice"]]
    command = ["--literal-pathspecs", "checkout", "--quiet", source["commit"], "--pathspec-from-file=-", "--pathspec-file-nul"]
    git(folder, *command, input="\0".join(paths).encode())
    return folder


def git(folder, *arguments, input=None):
    subprocess.run(["git", *arguments], cwd=folder, input=input, check=True)
