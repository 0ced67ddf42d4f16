#!/usr/bin/env bash
# Bundles the console's two vendored scripts again: needs Node and npm. Nobody who installs or runs the console needs it.
# Run it after changing a version in package.json (then once `npm install --package-lock-only`), and write the new
# SHA-256 into ../VENDORED.toml; tests/unit/console/test_web_files.py prints it.
set -euo pipefail
cd "$(dirname "$0")"
npm ci --no-audit --no-fund --omit-lockfile-registry-resolved --ignore-scripts
for name in preact editor; do
  node_modules/.bin/esbuild "$name.entry.js" --bundle --minify --format=esm --target=es2022 --legal-comments=none \
    --outfile="../$name.js"
done
rm -rf node_modules
