"""Certificates for servers of tests, made by the openssl of the machine."""

import subprocess


class Authority:
    """A certificate authority of the test's own.

    Args:
        folder: Where its files and those of its certificates go.
    """

    def __init__(self, folder):
        self._folder = folder
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=tests", "-days", "2",
        )  # fmt: skip
        self.path = str(folder / "ca.crt")

    def issue(self, name, days=2):
        """Make a certificate for the host of this name, which lasts for this many days.

        Returns the paths of it and its key.
        """
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
        )  # fmt: skip
        kind = "IP" if name[0].isdigit() else "DNS"
        (self._folder / "names").write_text(f"subjectAltName={kind}:{name}")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", f"{name}.crt", "-days", str(days), "-extfile", "names",
        )  # fmt: skip
        return str(self._folder / f"{name}.crt"), str(self._folder / f"{name}.key")

    def _openssl(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self._folder, check=True, capture_output=True)
