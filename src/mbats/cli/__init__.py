"""The command line: parse, call one function, print. Each noun is one module here, imported only when it is used."""

from __future__ import annotations

import importlib
import sys

import click

from mbats import __version__
from mbats.errors import MbatsError

# command: (module, attribute, one line for --help). The line stands here so that --help imports no command.
COMMANDS = {
    "up": ("platform", "up", "Start every service and prepare it; safe to repeat."),
    "stop": ("platform", "stop", "Stop every service, or one deployment; keeps all data."),
    "status": ("platform", "status", "Show each service with its version, health and address."),
    "secrets": ("secret", "secrets", "List the platform's passwords and keys, or change one."),
    "first-run": ("first_run", "first_run", "Download, backtest, report, and put a strategy on paper; skips what is done."),
    "ingest": ("ingest", "ingest", "Download bars through the OANDA API into the securities master."),
    "coverage": ("coverage", "coverage", "Show what the securities master holds, and its gaps."),
    "strategies": ("strategies", "strategies", "List the strategies with their parameters."),
    "backtest": ("backtest", "backtest", "Run a strategy on stored bars and record the run."),
    "runs": ("runs", "runs", "List recorded runs."),
    "report": ("report", "report", "Write one run as an HTML report."),
    "reproduce": ("reproduce", "reproduce", "Repeat a recorded run and compare the trades."),
    "train": ("train", "train", "Train a model on a strategy's own features, and register it."),
    "models": ("models", "models", "List the registered models and what they are worth out of sample."),
    "promote": ("promote", "promote", "Make a version the champion, if it passes the gate."),
    "rollback": ("promote", "rollback", "Make the former champion the champion again."),
    "retrain": ("retrain", "retrain", "Train challengers as mlflow/retrain.toml says."),
    "drift": ("drift", "drift", "Compare what a model sees with what it was trained on."),
    "serve": ("serve", "serve", "Serve a model as a REST endpoint."),
    "deploy": ("deploy", "deploy", "Let the trader trade a strategy, on paper or live."),
    "deployments": ("deployments", "deployments", "Show what is deployed, whether it trades, and what it holds."),
    "start": ("deployments", "start", "Start a deployment again."),
    "halt": ("trading_state", "halt", "Stop trading: cancel pending orders, send no more."),
    "reduce": ("trading_state", "reduce", "Take no new risk; exits still pass."),
    "flatten": ("trading_state", "flatten", "Halt, and close every position."),
    "resume": ("trading_state", "resume", "Trade again."),
    "backup": ("backup", "backup", "Dump every database to the S3 store."),
    "backups": ("backup", "backups", "List the backups."),
    "restore": ("backup", "restore", "Bring databases back from a backup."),
    "prepare": ("platform", "prepare", "Make logins, databases, tables and buckets in stores that run."),
    "prepare-service": ("platform", "prepare_service", "Do what must be done before one service may start."),
    "run-service": ("platform", "run_service", "Become one service, as a container does."),
    "simulator": ("simulator", "simulator", "Serve the OANDA v20 exchange simulator."),
    "trader": ("trader", "trader", "Run what is deployed."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"mbats.cli.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mbats")
def mbats() -> None:
    """MBATS takes an FX idea to a live account, and proves that the backtest was honest."""


def main() -> None:
    """Entry point. An error of ours is one plain message and exit code 2; Ctrl-C is 130."""
    try:
        # Without standalone mode, click gives back the exit code of `Exit` instead of raising it.
        code = mbats(standalone_mode=False)
    except MbatsError as error:
        click.echo(f"mbats: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("mbats: interrupted; what was committed before stays.", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)
