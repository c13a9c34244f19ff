"""A small PDF writer: pages of text and boxes (PDF 1.4, ISO 32000-1).

It uses two of the fonts that every reader brings along, so nothing needs to be embedded. Places are
points (1/72 inch) from the lower left corner of an A4 page.
"""

from __future__ import annotations

WIDTH, HEIGHT = 595, 842

Colour = tuple[float, float, float]
BLACK: Colour = (0, 0, 0)

# Widths of the characters from space to ~ in Helvetica, in 1/1000 of the size (Adobe's metrics).
_WIDTHS = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *[556] * 10,
    *(278, 278, 584, 584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667),
    *(556, 833, 722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278),
    *(469, 556, 333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)


def text_width(text: str, size: float) -> float:
    """How wide a text is in points; exact for the digits of either font, near for bold letters."""
    widths = (_WIDTHS[ord(c) - 32] if " " <= c <= "~" else 556 for c in text)
    return sum(widths) * size / 1000


class Pdf:
    """A document that begins with one empty page."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._pages: list[list[bytes]] = [[]]

    def new_page(self) -> None:
        """Go on on a fresh page."""
        self._pages.append([])

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 10,
        bold: bool = False,
        right: bool = False,
        colour: Colour = BLACK,
    ) -> None:
        """Write a line of text that begins at `x`, or ends there."""
        start = x - text_width(text, size) if right else x
        self._draw(
            f"BT {_numbers(*colour)} rg /F{2 if bold else 1} {_numbers(size)} Tf"
            f" {_numbers(start, y)} Td (".encode() + _escaped(text) + b") Tj ET"
        )

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle."""
        self._draw(f"{_numbers(*colour)} rg {_numbers(x, y, width, height)} re f".encode())

    def _draw(self, operators: bytes) -> None:
        self._pages[-1].append(operators)

    def to_bytes(self) -> bytes:
        """The whole file."""
        kids = " ".join(f"{6 + 2 * number} 0 R" for number in range(len(self._pages)))
        font = "<< /Type /Font /Subtype /Type1 /BaseFont /%s /Encoding /WinAnsiEncoding >>"
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Kids [{kids}] /Count {len(self._pages)} >>".encode(),
            (font % "Helvetica").encode(),
            (font % "Helvetica-Bold").encode(),
            b"<< /Title (" + _escaped(self._title) + b") >>",
        ]
        for page in self._pages:
            content = b"\n".join(page)
            objects += [
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}]"
                " /Resources << /Font << /F1 3 0 R /F2 4 0 R >> >>"
                f" /Contents {len(objects) + 2} 0 R >>".encode(),
                b"<< /Length %d >>\nstream\n" % len(content) + content + b"\nendstream",
            ]
        file = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")  # the second line says: binary
        offsets = []
        for number, body in enumerate(objects, start=1):
            offsets.append(len(file))
            file += b"%d 0 obj\n" % number + body + b"\nendobj\n"
        start = len(file)
        file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
        file += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
        file += b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\n" % (len(objects) + 1)
        file += b"startxref\n%d\n%%%%EOF\n" % start
        return bytes(file)


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.3f}".rstrip("0").rstrip(".") for value in values)


def _escaped(text: str) -> bytes:
    """Text in the fonts' encoding; what it lacks becomes a question mark."""
    raw = text.encode("cp1252", "replace")
    return raw.replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
