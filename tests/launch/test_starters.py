"""What starts runs on many machines: it parses, and names programs, flags and variables that exist."""

import ast
import os
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
SCRIPTS = ("launch/slurm.sbatch", "launch/tpu_pod.sh", ".ci/run")
STARTERS = ("launch/slurm.sbatch", "launch/tpu_pod.sh", "launch/kubernetes.yaml")
LAUNCHERS = {"nodes", "zone", "worker", "command"}  # flags of sbatch and gcloud


def flags_of(program: str) -> set[str]:
  """The flags that a program defines, by absl or argparse."""
  found = set()
  for node in ast.walk(ast.parse((ROOT / program).read_text())):
    name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
    if re.search(r"\b(DEFINE_\w+|add_argument)$", name):
      found |= {a.value.lstrip("-") for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
  return found


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_parse(script):
  checked = subprocess.run(["bash", "-n", str(ROOT / script)], capture_output=True, text=True, check=False)
  assert checked.returncode == 0, checked.stderr
  assert (ROOT / script).read_text().startswith("#!/usr/bin/env bash\n")


@pytest.mark.parametrize("starter", STARTERS)
def test_starters_name_what_exists(starter):
  text = (ROOT / starter).read_text()
  programs = set(re.findall(r"launch/\w+\.py", text))
  assert programs == {"launch/train.py"}
  for config in re.findall(r"--config=([\w/.]+)", text):
    assert (ROOT / config).exists(), config
  lines = [line for line in text.splitlines() if not line.startswith("#SBATCH")]
  used = set(re.findall(r"--(\w+)=", "\n".join(lines))) - LAUNCHERS
  assert used - {"preempted_status"} == {"config", "workdir"}
  assert used <= flags_of("launch/train.py")


def test_kubernetes_sets_what_the_mesh_reads():
  service, job = yaml.safe_load_all((ROOT / "launch/kubernetes.yaml").read_text())
  pod = job["spec"]["template"]["spec"]
  variables = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
  read = (ROOT / "vljax/parallel/mesh.py").read_text()
  assert all(f'"{name}"' in read for name in variables)
  assert variables["JAX_NUM_PROCESSES"] == str(job["spec"]["completions"]) == str(job["spec"]["parallelism"])
  assert variables["JAX_COORDINATOR_ADDRESS"].startswith(f"{job['metadata']['name']}-0.{pod['subdomain']}:")
  assert service["metadata"]["name"] == pod["subdomain"]
  (status,) = [c.partition("=")[2] for c in pod["containers"][0]["command"] if c.startswith("--preempted_status=")]
  ignored = job["spec"]["podFailurePolicy"]["rules"][0]
  assert ignored["action"] == "Ignore"
  assert ignored["onExitCodes"]["values"] == [int(status)]
  assert ignored["onExitCodes"]["containerName"] == pod["containers"][0]["name"]


def test_slurm_runs_one_process_per_gpu():
  header = dict(re.findall(r"#SBATCH --([\w-]+)=(\S+)", (ROOT / "launch/slurm.sbatch").read_text()))
  assert header["ntasks-per-node"] == header["gpus-per-node"]


def test_tpu_pod_quotes_its_arguments(tmp_path):
  fake = tmp_path / "gcloud"
  fake.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
  fake.chmod(0o755)
  environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NAME": "slice", "ZONE": "zone-b"}
  words = ["--config=a.py:x,y", "--config.name=two words", "--workdir=gs://b/c"]
  script = str(ROOT / "launch/tpu_pod.sh")
  done = subprocess.run(["bash", script, *words], env=environment, capture_output=True, text=True, check=True)
  command = next(line for line in done.stdout.splitlines() if line.startswith("--command="))
  echoed = subprocess.run(
    ["bash", "-c", command.removeprefix("--command=").split("launch/train.py ")[1].join(["printf '%s\\n' ", ""])],
    capture_output=True,
    text=True,
    check=True,
  )
  assert echoed.stdout.splitlines() == words


def test_tpu_pod_says_what_is_missing():
  environment = {"PATH": os.environ["PATH"]}
  script = str(ROOT / "launch/tpu_pod.sh")
  done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
  assert done.returncode
  assert "the name of the TPU slice" in done.stderr
