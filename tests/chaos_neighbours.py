"""Groups of scripts/chaos: launchers, locks, caches, permissions and hooks."""

import json
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers

import plcli.tasks.text_classification  # so that forks have it
from tests.conftest import write_config as write_any_config
from tests.conftest import write_linear_config, write_text_config
from tests.killed_fits import fork, result_of, start, write_config
from tests.launched import LAUNCHERS, environments, fork_ranks
from tests.lightning_cli.test_killed_projects import result_of as project_result
from tests.lightning_cli.test_projects import PROJECTS

Row = tuple[str, int, int, str]
TRUSTED = ("--allow-import", "tests")
NOISY = ("fit", *TRUSTED, "-c", "config.yaml", "--resume", "auto", "--run")


class Neighbours:
    """Runs the groups in one folder.

    Args:
        folder: for the runs.
        part: how many times less than everything.
    """

    def __init__(self, folder: Path, part: int) -> None:
        self.folder, self.part = folder, part
        self.random = random.Random(11)

    def groups(self) -> dict[str, Callable[[], Row]]:
        """Return the groups by name."""
        return {
            "launchers": self.launchers,
            "launched-kills": self.launched_kills,
            "locks-fits": self.fits_together,
            "locks-one": self.one_folder,
            "locks-predicts": self.predicts_together,
            "caches": self.caches,
            "permissions": self.permissions,
            "hooks": self.hooks,
        }

    def times(self, number: int) -> int:
        """Return how often something is done."""
        return max(1, round(number / self.part))

    def fresh(self, name: str) -> Path:
        """Make an empty folder."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        return folder

    def launchers(self) -> Row:
        """Fit by two processes of each launcher: one run, in one folder, each row once."""
        number, good = self.times(20), 0
        folder = self.fresh("launchers")
        write_linear_config(folder)
        expected = None
        for run in range(number):
            launcher = LAUNCHERS[run % len(LAUNCHERS)]
            words = ("fit", "-c", "table.yaml", "--run", str(run))
            ended = fork_ranks(*words, folder=folder, ranks=environments(launcher))
            metrics = folder / str(run) / "metrics.json"
            found = metrics.read_text() if metrics.exists() else None
            expected = expected or found
            size = json.loads((folder / str(run) / "environment.json").read_text())["processes"]
            shows = [each.said.count("best epoch") for each in ended]
            held = [each.code for each in ended] == [0, 0] and found == expected is not None
            good += held and size["world_size"] == 2 and shows == [1, 0]
        return "fits by 2 processes of 4 launchers", number, good, "one run of world size 2"

    def launched_kills(self) -> Row:
        """Kill one of two ranks at a random moment, several times, and resume."""
        number, good = self.times(20), 0
        folder = self.fresh("kills")
        trainer = {"accumulate_grad_batches": 1}
        write_config(folder / "config.yaml", model={"slow": 0.002}, trainer=trainer)
        whole = fork_ranks(*NOISY, "whole", folder=folder, ranks=environments("torchrun"))
        assert [each.code for each in whole] == [0, 0], whole
        steps = 18
        for run in map(str, range(number)):
            for _ in range(2):
                victim, step = self.random.randrange(2), self.random.randrange(1, steps)
                moment = self.random.uniform(0, 0.02)

                def kill(
                    pids: list[int],
                    logs: list[Path],
                    victim: int = victim,
                    step: int = step,
                    moment: float = moment,
                ) -> None:
                    until = time.monotonic() + 15
                    while time.monotonic() < until:
                        if f"<training after {step}>" in logs[victim].read_text():
                            break
                        if os.waitid(os.P_PID, pids[0], os.WEXITED | os.WNOHANG | os.WNOWAIT):
                            return  # it has ended before that step
                        time.sleep(0.002)
                    time.sleep(moment)
                    os.kill(pids[victim], signal.SIGKILL)

                fork_ranks(
                    *NOISY, run, folder=folder, ranks=environments("torchrun"), meddle=kill, grace=1
                )
            ended = fork_ranks(*NOISY, run, folder=folder, ranks=environments("torchrun"))
            same = [each.code for each in ended] == [0, 0]
            same = same and result_of(folder / run) == result_of(folder / "whole")
            if not same:
                print(run, *(each.said[-1500:] for each in ended), sep="\n")
            good += same
        return "kill -9 to one of 2 ranks, twice a run", number, good, "bit-identical"

    def fits_together(self) -> Row:
        """Start three fits at once without --run."""
        number, good = self.times(15), 0
        folder = self.fresh("together")
        write_config(folder / "config.yaml", trainer={"max_epochs": 1})
        for _ in range(number):
            shutil.rmtree(folder / "runs", ignore_errors=True)
            logs = [folder / f"log-{each}" for each in range(3)]
            command = ("fit", *TRUSTED, "-c", "config.yaml")
            pids = [start(*command, folder=folder, environment={}, log=log) for log in logs]
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            models = list((folder / "runs").glob("*/model/plcli.json"))
            good += codes == [0, 0, 0] and len(models) == 3
        return "3 fits at once without --run", number, good, "3 folders, 3 models"

    def one_folder(self) -> Row:
        """Start a second fit, or predict, in the folder of a fit; kill the first; fit again."""
        number, good = self.times(25), 0
        folder = self.fresh("one")
        write_config(folder / "config.yaml", model={"slow": 0.002})
        assert fork(*NOISY, "whole", folder=folder).code == 0
        for run in map(str, range(number)):
            other = ("predict", *TRUSTED, "--run") if int(run) % 3 == 2 else NOISY
            told: list[bool] = []

            def meddle(
                pid: int,
                log: Path,
                run: str = run,
                other: tuple[str, ...] = other,
                told: list[bool] = told,
            ) -> None:
                step = self.random.randrange(1, 12)
                until = time.monotonic() + 30
                while f"<training after {step}>" not in log.read_text():
                    if time.monotonic() > until:
                        break
                    time.sleep(0.002)
                os.kill(pid, signal.SIGSTOP)  # so that it does not end first
                second = fork(*other, run, folder=folder)
                told.append(second.code == 5 and f"process {pid} of this machine" in second.said)
                os.kill(pid, signal.SIGKILL)

            fork(*NOISY, run, folder=folder, meddle=meddle)
            ended = fork(*NOISY, run, folder=folder)
            same = ended.code == 0 and result_of(folder / run) == result_of(folder / "whole")
            good += same and told == [True]
        return "a second fit or predict in a fit's folder", number, good, "told; then bit-identical"

    def predicts_together(self) -> Row:
        """Predict twice at once, to the default name and to one --output."""
        number, good = self.times(20), 0
        folder = self.fresh("predicts")
        write_linear_config(folder)
        assert fork("fit", "-c", "table.yaml", "--run", "run", folder=folder).code == 0
        words = ("predict", "--run", "run", "--input", "table.csv")
        fork(*words, "--output", "alone.csv", folder=folder)
        rows = (folder / "alone.csv").read_bytes()
        for number_of_try in range(number):
            shutil.rmtree(folder / "run" / "predictions", ignore_errors=True)
            named = number_of_try % 2
            output = ("--output", f"{number_of_try}.csv") if named else ()
            logs = [folder / f"log-{each}" for each in range(2)]
            pids = [start(*words, *output, folder=folder, environment={}, log=log) for log in logs]
            codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
            where = folder if named else folder / "run" / "predictions"
            files = sorted(where.glob(f"{number_of_try}*.csv" if named else "*.csv"))
            whole = all(file.read_bytes() == rows for file in files)
            good += whole and set(codes) <= {0, 2} and len(files) == codes.count(0) > 0
        return "2 predicts at once, one name", number, good, "2 files, or one is refused"

    def caches(self) -> Row:
        """Damage files of the cache in some way, and fit again."""
        assert plcli.tasks.text_classification
        assert transformers.BertForSequenceClassification  # which transformers loads when asked
        assert transformers.AutoModelForSequenceClassification
        number, good = self.times(50), 0
        folder = self.fresh("caches")
        write_text_config(folder)
        words = ("fit", "-c", "text.yaml", "--run")
        assert fork(*words, "whole", folder=folder).code == 0
        weights = (folder / "whole" / "model" / "model.safetensors").read_bytes()
        for run in map(str, range(number)):
            files = sorted(
                path
                for kind in ("rows", "tokens", "tokenizers")
                for path in (folder / "cache" / kind).iterdir()
                if path.suffix != ".lock"
            )
            path = self.random.choice(files)
            path.write_bytes(self._harmed(path.read_bytes()))
            ended = fork(*words, run, folder=folder)
            model = folder / run / "model" / "model.safetensors"
            same = ended.code == 0 and model.read_bytes() == weights
            good += same and "is damaged (" in ended.said
            shutil.rmtree(folder / run, ignore_errors=True)
        return "a cache file cut, emptied, zeroed, flipped", number, good, "told, the same weights"

    def _harmed(self, content: bytes) -> bytes:
        place = self.random.randrange(len(content))
        flipped = content[:place] + bytes([content[place] ^ (1 << self.random.randrange(8))])
        ways = (content[:place], b"", bytes(len(content)), flipped + content[place + 1 :])
        return self.random.choice(ways)

    def permissions(self) -> Row:
        """Fit and predict under several umasks."""
        number, good = self.times(20), 0
        folder = self.fresh("permissions")
        write_linear_config(folder)
        for run in map(str, range(number)):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            mask = self.random.choice((0o022, 0o027, 0o077, 0o002, 0o007))
            before = os.umask(mask)
            try:
                codes = [fork("fit", "-c", "table.yaml", "--run", run, folder=folder).code]
                codes += [fork("predict", "--run", run, "--input", "table.csv", folder=folder).code]
            finally:
                os.umask(before)
            wrong = [
                path
                for path in (folder / run).rglob("*")
                if stat.S_IMODE(path.stat().st_mode) != (0o777 if path.is_dir() else 0o666) & ~mask
            ]
            shared = [
                path
                for path in (folder / "cache").rglob("*.arrow")
                if stat.S_IMODE(path.stat().st_mode) != 0o644 & ~mask
            ]
            good += codes == [0, 0] and not wrong and not shared
        return "fit and predict under a umask", number, good, "all files as the umask says"

    def hooks(self) -> Row:
        """Kill projects whose hooks change things at the start of an epoch, before each batch."""
        moments = range(1, 24)
        cases: list[tuple[str, list[Any]]] = [
            ("Hooks", []),
            ("Network", [{"class_path": "lab.noisy.Exponent"}]),
        ]
        good = number = 0
        folder = self.fresh("hooks")
        project = Path(shutil.copytree(PROJECTS, folder / "project"))
        for model, callbacks in cases:
            write_any_config(
                project / "noisy.yaml",
                model={"class_path": f"lab.noisy.{model}"},
                data={"class_path": "lab.noisy.Data"},
                trainer={"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 1}
                | {"callbacks": [*callbacks, {"class_path": "lab.noisy.Kill"}]},
                checkpoint={"every_n_steps": 2},
            )
            words = ("fit", "-c", "noisy.yaml", "--allow-import", "lab", "--run")
            whole = f"{model}-whole"
            assert fork(*words, whole, folder=project).code == 0
            for batch in random.Random(3).sample(moments, min(23, self.times(23))):
                run = f"{model}-{batch}"
                killed = {"KILL_BEFORE": str(batch)}
                code = fork(*words, run, folder=project, environment=killed).code
                resumed = fork(*words, run, folder=project).code
                same = project_result(project / run) == project_result(project / whole)
                good += (code, resumed, same) == (-signal.SIGKILL, 0, True)
                number += 1
        return "kill -9 in projects with on_train_epoch_start", number, good, "bit-identical"
