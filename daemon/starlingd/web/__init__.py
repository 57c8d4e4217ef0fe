"""What the adapters of Starling's two services share: bounded HTTPS exchanges over kept connections, and JSON answers.

It must never know a path or a credential, nor let a URL, a header or a body into a log, an exception or a repr.
"""
