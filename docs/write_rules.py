"""Writes docs/rules.md anew: python docs/write_rules.py"""

from pathlib import Path

from neurocompress.fit.rules.page import page

if __name__ == "__main__":
    Path(__file__).with_name("rules.md").write_text(page(), encoding="utf-8")
