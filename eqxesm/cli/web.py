"""`eqxesm web`."""

import sys
from argparse import ArgumentParser, Namespace

from eqxesm.cli.arguments import add_model, needs_extra
from eqxesm.cli.compilation import add_compilation_cache
from eqxesm.cli.devices import add_device, use_device

SUMMARY = "a web page that predicts, explains and designs"

DESCRIPTION = """Serve a web page on which people paste proteins, or choose a file, and get what predict, explain,
scan and design give, within limits that it states:

  eqxesm web                                        http://127.0.0.1:7860
  eqxesm web --model run/model --port 8000
  eqxesm web --host 0.0.0.0 --root-path /proteins   for others, behind a proxy
  eqxesm web --space my-space                       write a Hugging Face Space of it, and serve nothing

The model is loaded and compiled before the page answers. The page sends nothing to anyone, and keeps no file."""


def add_arguments(parser: ArgumentParser) -> None:
    add_model(parser, "--model")
    parser.add_argument("--host", metavar="H", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", metavar="N", type=int, default=7860, help="(default: 7860)")
    parser.add_argument("--root-path", metavar="P", default="", help="path prefix that a proxy serves the page at")
    parser.add_argument("--space", metavar="FOLDER", help="write a Hugging Face Space there, and serve nothing")
    add_device(parser)
    add_compilation_cache(parser)


def run(options: Namespace) -> None:
    if options.space:
        with needs_extra("web"):
            from eqxesm.web.space import write_space

            write_space(options.space, options.model, options.revision)
        print(f"Space written: {options.space}", file=sys.stderr)
        return
    with needs_extra("web"):
        from eqxesm.web.server import check_prefix, make_app, open_port, serve
    from eqxesm.inference import show_progress
    from eqxesm.loading import load_model
    from eqxesm.web.service import Service

    prefix, port = check_prefix(options.root_path), open_port(options.host, options.port)
    use_device(options.device)
    service = Service(load_model(options.model, options.revision))
    with port, show_progress(lambda: len(service.programs()), " programs compiled", True) as bar:
        service.warm(bar.update)
        bar.close()
        app = make_app(service, options.model, prefix)
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{port.getsockname()[1]}{prefix}/"
        print(f"{address} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        try:
            serve(app, port)
        except KeyboardInterrupt as interrupt:
            raise KeyboardInterrupt("the page is closed") from interrupt
