"""`simherd completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, task ids and names in SHELL.

    \b
    bash:  echo 'eval "$(simherd completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(simherd completion zsh)"' >> ~/.zshrc
    fish:  simherd completion fish > ~/.config/fish/completions/simherd.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "simherd", "_SIMHERD_COMPLETE").source())
