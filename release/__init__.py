"""Makes a release: packages built reproducibly, a bill of materials, digests and a signature (docs/release.md)."""
