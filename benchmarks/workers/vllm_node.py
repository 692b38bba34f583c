"""A further machine of a vLLM that runs on several: what `vllm serve --headless` runs, with the same options.

The `vllm` command itself asks for metadata that the build for processors does not carry.
"""

from vllm.entrypoints.cli import serve

if __name__ == "__main__":
    parser = serve.make_arg_parser(serve.FlexibleArgumentParser())
    serve.ServeSubcommand.cmd(parser.parse_args())
