#!/usr/bin/env bash
# What every node of a cluster gets, in a folder: the wheel, the versions of what it needs, the token by which the nodes
# know each other, and the settings. Making it again replaces the wheel, and leaves token and settings as they are.
#
#     deploy/make_bundle.sh [FOLDER]      # bundle, if not given; PYTHON=... for another Python than .venv's
set -euo pipefail
umask 077
folder=$(realpath -m "${1:-bundle}")
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
mkdir -p "$folder"
rm -f "$folder"/parallel_interview-*.whl
rm -rf build # what an older build left there would come into the wheel
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" .
cp constraints.txt "$folder/"
[ -e "$folder/ray-token" ] || "$python" -c 'import secrets; print(secrets.token_hex(32), end="")' > "$folder/ray-token"
if [ ! -e "$folder/cluster.env" ]; then
    secrets() { "$python" -c 'import secrets; print(secrets.token_urlsafe(32))'; }
    sed -e "s/^INTERVIEW_SECRET=$/&$(secrets)/" -e "s/^INTERVIEW_API_KEY=$/&$(secrets)/" \
        deploy/cluster.env.example > "$folder/cluster.env"
fi
ls "$folder"
