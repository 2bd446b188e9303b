"""The command line: python3 -m train, from tools/."""

import os

# Threads of the linear algebra library are fixed when it is loaded; the recipe's own setting governs the rest.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse  # noqa: E402
import sys  # noqa: E402

from . import estimator, evaluate, expert, export, further, further_expert, jobs, photos, router, smoke, tree  # noqa: E402
from .loop import Stop, prepare  # noqa: E402
from .workspace import PACKAGE, Workspace, default_cache  # noqa: E402

UNFINISHED = 3  # exit code of a step that was stopped before its end


def parser():
    p = argparse.ArgumentParser(prog="python3 -m train", description="Train a small UniRestorer from free photos.")
    p.add_argument("--config", default=str(PACKAGE / "nano.json"), help="configuration file")
    p.add_argument("--cache", default=str(default_cache()), help="folder for photos, checkpoints and curves")
    commands = p.add_subparsers(dest="command", required=True)

    def add(name, text, *, hours=False):
        c = commands.add_parser(name, help=text, description=text)
        if hours:
            c.add_argument("--hours", type=float, help="stop after this time; the same command goes on later")
        return c

    add("photos", "fetch the photos")
    add("estimator", "train the degradation encoder", hours=True)
    add("tree", "cluster the encoder's features and lay out the pool")
    add("expert", "train one expert", hours=True).add_argument("name", help='"coarse", or a name from pool.json')
    add("router", "train the gates", hours=True)
    add("export", "write a model folder and golden cases").add_argument("folder", nargs="?", help="where to (default: the cache)")
    add("further", "train the encoder and gates of the committed model further, on pictures as saved", hours=True)
    add("further-expert", "train an expert of the committed model further, on pictures as saved", hours=True).add_argument(
        "name", help="one of the configuration's")
    c = add("export-further", "write the model folder of what was trained further")
    c.add_argument("folder", help="where to")
    c.add_argument("parts", nargs="*", help='"router" and names of experts (default: all that were trained)')
    add("evaluate", "measure PSNR on the reserved photos")
    add("run", "run everything that is not done, in order", hours=True)
    start = add("start", "run in the background at the lowest priority")
    start.add_argument("--hours", type=float, help="stop after this time")
    for name, text in (("status", "say what is done and what is running"), ("pause", "suspend the background run"),
                       ("resume", "continue the suspended run"), ("stop", "save and end the background run")):
        add(name, text)
    add("smoke", "the whole recipe for a few steps on generated pictures, in a folder of its own")
    return p


def main():
    args = parser().parse_args()
    if args.command == "smoke":
        return smoke.run()
    ws = Workspace(args.config, args.cache)
    if args.command in ("start", "status", "pause", "resume", "stop"):
        return getattr(jobs, args.command)(ws, args)
    if args.command == "run":
        return jobs.run(ws, args.hours)
    prepare(ws)
    done = True
    if args.command == "photos":
        photos.fetch(ws)
    elif args.command == "estimator":
        done = estimator.train(ws, Stop(args.hours))
    elif args.command == "tree":
        tree.build(ws)
    elif args.command == "expert":
        done = expert.train(ws, args.name, Stop(args.hours))
    elif args.command == "router":
        done = router.train(ws, Stop(args.hours))
    elif args.command == "export":
        export.write(ws, args.folder)
    elif args.command == "further":
        done = further.train(ws, Stop(args.hours))
    elif args.command == "further-expert":
        done = further_expert.train(ws, args.name, Stop(args.hours))
    elif args.command == "export-further":
        further.export(ws, args.folder, args.parts)
    elif args.command == "evaluate":
        evaluate.report(ws)
    return 0 if done else UNFINISHED


if __name__ == "__main__":
    sys.exit(main())
