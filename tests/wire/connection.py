"""A client's TCP connection, as sshd hands it down to the process that runs PAM."""

import socket


class Connection:
    """A client's connection to a server's process: ``client`` and ``server`` are its ends."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.server, _ = listener.accept()
        (peer, peer_port), (ours, our_port) = self.server.getpeername(), self.server.getsockname()
        self.ends = f"{peer} {peer_port} {ours} {our_port}"
        self.options = [f"-ESSH_CONNECTION={self.ends}"]

    def close(self) -> None:
        """Close both ends."""
        self.client.close()
        self.server.close()
