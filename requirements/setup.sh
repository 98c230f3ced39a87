#!/bin/sh
# Creates .venv and installs the locked packages and the project into it; called by the Makefile.
#
# usage: setup.sh PYTHON VARIANT [TORCH_INDEX]
#   PYTHON       the Python 3.11 to build on
#   VARIANT      cpu or cuda: which requirements/VARIANT.lock
#   TORCH_INDEX  an index that has torch's CPU build, where pip's own configuration names none
#
# .venv/.installing stands while this runs. If it is there at the start, an earlier run was cut
# short and may have left half a package behind: that environment is thrown away.
set -eu

python=$1
variant=$2
torch_index=${3:-}
venv_python=.venv/bin/python
torch="torch==2.13.0+cpu"

if ! command -v "$python" >/dev/null; then
    echo "set-up: Python 3.11 is needed but '${python:-python3}' was not found: install python3.11" >&2
    exit 1
fi
"$python" requirements/preflight.py

# The project and its tools have to come from here alone.
unset PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
install() { "$venv_python" -m pip install -qq --no-deps --no-compile "$@"; }
step() { echo "set-up: $*"; }

if [ -e .venv/.installing ]; then
    step "an earlier set-up was cut short, starting again"
    rm -rf .venv
fi
mkdir -p .venv
rm -f .venv/.ready*
touch .venv/.installing

step "virtual environment"
"$python" -m venv .venv

if [ "$variant" = cpu ]; then
    step "torch, CPU build"
    # The extra index serves this step only: pip asks every index for every requirement.
    if ! install ${torch_index:+--extra-index-url "$torch_index"} "$torch"; then
        echo "set-up: no $torch in pip's indexes: make TORCH_INDEX=https://download.pytorch.org/whl/cpu" >&2
        exit 1
    fi
fi

step "packages of requirements/$variant.lock (about a minute)"
install -r "requirements/$variant.lock"

step "the project, editable"
install --no-build-isolation -e .

if [ "$variant" = cpu ]; then
    # Proves the stack loads, and compiles the fifth of it that is used: what nobody imports stays
    # uncompiled (hence --no-compile above), what everybody imports is compiled once.
    step "first import"
    log=.venv/first-import.log
    if ! env -u PYTHONDONTWRITEBYTECODE "$venv_python" requirements/first_import.py >"$log" 2>&1; then
        tail -n 3 "$log" >&2
        echo "set-up: the installed packages do not load, see $log" >&2
        exit 1
    fi
fi

# pyright resolves kvl.* through these links: it cannot follow an editable install's import hook.
mkdir -p .venv/kvl-paths/kvl
for folder in rl sft evaluation reports run_files rewards rollouts configs kimi_vl_model problems; do
    ln -sfn "../../../$folder" ".venv/kvl-paths/kvl/$folder"
done

rm .venv/.installing
step "done"
