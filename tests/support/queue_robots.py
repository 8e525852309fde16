"""What robots of the tests do with queues: a package of activities, published where a cluster's robots find it."""

import shutil
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.robot_packages import make_wheel

PACKAGE = "queueworks==1.0"
WORKER_ROLE = "kuberpa-queue-worker"
ACTIVITIES = '''
    import os, time
    from kuberpa_agent.sdk import BusinessError, LeaseLost, activity, queue, should_stop, wait_for_stop


    @activity(name="works.hold")
    def hold(name: str, seconds: float) -> str:
        """Take one item and keep it for a while, whatever happens."""
        with queue(name).take() as item:
            print(f"holding {item.id}", flush=True)
            end = time.monotonic() + seconds
            while time.monotonic() < end and not wait_for_stop(0.05):
                pass
        return item.id


    @activity(name="works.work")
    def work(name: str, ledger: str = "") -> int:
        """Work until a stop is asked for. A payload may say that it is wrong, or that its first attempt fails."""
        done = 0
        for item in queue(name):
            try:
                with item:
                    if item.payload.get("wrong"):
                        raise BusinessError("it says so")
                    if item.payload.get("fails") and item.attempt == 1:
                        raise RuntimeError("the first attempt")
                    if ledger:
                        with open(ledger, "a") as file:
                            file.write(f"{item.payload['n']} {item.attempt}\\n")
                    time.sleep(item.payload.get("seconds", 0))
                    item.complete({"by": os.environ["KUBERPA_ITEM_NAME"]})
                done += 1
            except (BusinessError, RuntimeError, LeaseLost) as error:
                print(repr(error), flush=True)
        return done


    @activity(name="works.fill")
    def fill(name: str, count: int) -> int:
        for number in range(count):
            queue(name).add({"n": number}, reference=f"r-{number}")
        return count
'''


def publish(cluster: Cluster, scratch: Path) -> None:
    """Put the package into the cluster's package folder."""
    folder = cluster.site.paths.packages
    folder.mkdir(parents=True, exist_ok=True)
    copy = shutil.copy(make_wheel(scratch, "queueworks", ACTIVITIES), folder)
    Path(copy).chmod(0o644)
