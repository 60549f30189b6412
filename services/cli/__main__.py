"""``python -m services.cli``: the ``mpa`` command where no script is installed."""

from services.cli.main import app

if __name__ == "__main__":
    app(prog_name="mpa")
