import pathlib
import shutil
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"


def run(*command, patience=60, **more):
    """What a command prints, which must succeed."""
    words = [str(word) for word in command]
    assert shutil.which(words[0]), f"{words[0]} is not installed"
    done = subprocess.run(words, capture_output=True, text=True, timeout=patience, stdin=None if "input" in more else subprocess.DEVNULL, **more)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
