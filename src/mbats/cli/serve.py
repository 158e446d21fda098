"""`mbats serve`: one model of the registry as a REST endpoint."""

from __future__ import annotations

import click


@click.command()
@click.argument("reference", required=False)
@click.option("--port", type=click.IntRange(1, 65535), help="Port on which it answers. Default: MBATS_SERVING_PORT.")
@click.option("--host", help="Address on which it listens. Default: MBATS_LISTEN, this machine alone.")
def serve(reference: str | None, port: int | None, host: str | None) -> None:
    """Serve the model REFERENCE (NAME@ALIAS or NAME/VERSION; default: MBATS_SERVED_MODEL) until Ctrl-C.

    The registry is asked once, now. POST rows to /invocations; /ping says whether it is up. It has no login. A strategy uses it
    with model="rest:NAME@ALIAS".
    """
    from mbats.errors import PlatformError
    from mbats.ml.serving import become_server, prepare
    from mbats.platform.ports import is_free
    from mbats.settings import get_settings

    settings = get_settings()
    host, port = host or settings.listen, port or settings.serving_port
    if not is_free(port):
        raise PlatformError(f"Port {port} is taken, so nothing is served. Name another with --port, or set MBATS_SERVING_PORT.")
    served = prepare(settings, reference or settings.served_model)
    click.echo(f"Serving {served.title} at http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/invocations")
    become_server(served, host, port)
