"""How much a file may ask for: every reader's limits, in one table.

Each is well above what any model or image set needs and, together, they keep the time and the
memory that a file takes in proportion to its size, whatever its bytes are. A reader refuses what
is above them and says so.
"""

# What a model may be.

MAX_DEPTH = 200
"""Blocks of a stage; the largest PVT has 40."""

MAX_WIDTH = 16_384
"""Channels of a stage; the largest PVT has 512."""

MAX_RATIO = 64
"""Width of an MLP over its stage's, and the spatial reduction of a stage; PVTs have up to 8."""

MAX_CHANNELS = 1024
"""Channels of an input image: hyperspectral cameras have some hundreds."""

MAX_CLASSES = 200_000
"""Outputs of a head; ImageNet-22k has 21,841 classes."""

MAX_IMAGE_SIDE = 4096
"""Pixels of a side of a model's input."""

MAX_TRIED = 1 << 23
"""Numbers of a layer's result, for one image, of a model that is run to see what it answers:
PVT v2 b5 has as many at 512 pixels.
"""

# What an image may be.

MAX_PIXELS = 178_956_970
"""Pixels of an image that is decoded: those of 512 MiB of RGB, Pillow's own limit."""

MAX_SIDE = 3_000_000
"""Pixels of a side: each row takes Pillow eight bytes more, and raw ones time with the square of
their length; JPEG and WebP end at 65,535."""

MAX_SCANS, MAX_SCANNED = 100, 2_000_000_000
"""Scans of a JPEG, and pixels in all of them, as each may go through all; encoders write about ten
scans.
"""

MAX_COEFFICIENTS = 50_000_000
"""Bytes beyond eight for each pixel that decoding a JPEG of several scans may take, as it holds all
coefficients, of two bytes: 25 megapixels in full colour, any number with colours at half
resolution.
"""

MAX_PARTS_BEFORE, MAX_EXIF = 2000, 4 << 20
"""Parts of a JPEG before its pixels, and of a PNG beside them, of which Pillow keeps each; and the
bytes of a JPEG's EXIF data, of which Pillow copies what it has with each part."""

MAX_LOOPED = 2_000_000
"""Numbers that Pillow reads one by one, in Python: of a PPM in digits, or of other than 8 bits, and
of a BMP in runs."""

MAX_COMMENTS = 1000
"""Comments of a PPM in digits: Pillow copies up to a megabyte for each."""

MAX_WEBP, WEBP_GROWTH = 5_000_000, 100
"""Pixels of a WebP, of which each takes 16 bytes to decode: so many, and so many more for each byte
of its file. Photos have some 5 to 20 for a byte.
"""

MAX_TILE = 4_000_000
"""Pixels of a TIFF's tile, or as many as its image has: tiles are decoded whole."""

MAX_BANDS = 8
"""How many times the pixels of a TIFF may be in its strips, which say themselves how many they are:
once for each colour, of which there are six at most."""

MAX_TIFF_NUMBERS = 100_000
"""Numbers in a TIFF's directories or EXIF data: places of strips, of which each takes Pillow some
250 bytes."""

MAX_DIRECTORIES, MAX_TIFF_SHARED = 8, 8 << 20
"""Directories of those, of which there are four kinds, and bytes that their texts may have beyond
what the file has: several may be at one place, and Pillow reads each for itself."""

MAX_TIFF_JPEG, JPEG_GROWTH = 20_000_000, 10
"""Pixels of a TIFF that is packed as JPEG, of which each may be in a hundred scans: so many, and so
many more for each byte of its file."""

MAX_IMAGE_BYTES = 1 << 30
"""Bytes of an image's file: a sparse one is as long as anybody says, and some are read at once."""

MAX_PADDING = 1 << 20
"""Bytes of a WebP behind those that its header tells of, which its decoder holds too, and of a JPEG
between its parts, over which decoders go one by one."""

MAX_PACKED_TEXTS = 32
"""Compressed texts and profiles of a PNG, of which each may take a megabyte."""

MAX_CLASS_NAME = 1000
"""Bytes of the name of a class in a tar file."""

MAX_TAR_HEADER, MAX_TAR_KEYS = 1 << 20, 100
"""Bytes of the headers of a member of a tar file, and what they say of all that follow: each takes
tarfile many times that."""

# What a file of weights may hold.

MAX_ENTRIES = 10_000
"""Tensors or texts of a file: a training checkpoint of the largest PVT has fewer.

(1,054 tensors, at most eight of each: the weight, moments, averages, gradients.) Entries cost
many times their bytes in memory, so a file of nothing but tiny ones is refused.
"""

MAX_FIELDS = 300_000
"""Fields of protobuf that are looked at in a file: ten for each entry, and a graph's nodes."""

MAX_DIMS = 32
"""Dimensions of a tensor: numpy 1's limit."""

MAX_NAME = 500
"""Characters of a tensor's name; a PVT's have some 60."""

MAX_SHARING = 8
"""How many times the size of its files a file's tensors may have: some share their values, which
each has for itself where a model is run.
"""

MAX_DIRECTORY = 4_000_000
"""Bytes of the directory of a zip, of some 150 for each of :data:`MAX_ENTRIES`."""

MAX_PARTS = 20_000
"""Modules, parameters and buffers of what was pickled whole: one that holds itself has no end."""

MAX_NEAR = 100
"""Characters of a name of which the nearest known one is looked for: that takes their square."""

MAX_KNOWN = 2000
"""Names that are looked at for it; a PVT has up to some 1,000."""

# What a text may hold: JSON, YAML, names by line.

MAX_TEXT_BYTES = 100_000_000
"""Bytes of a text that is parsed; also the reference implementation's limit on the header of a
``.safetensors``.
"""

MAX_RECIPE_BYTES = 50_000
"""Bytes of a recipe; ours have 2,000, and a parser of YAML takes many times as long as JSON's."""

MAX_VALUES, VALUE_CHARACTERS = 250_000, 16
"""Commas and brackets of a JSON text, each of which makes some 200 bytes in memory; more in one
that has so many characters for each.
"""

MAX_NESTING = 64
"""Levels of lists and objects in a text."""

MAX_INTEGER = 1 << 63
"""What integers of a file are below, and above its negative: what formats and languages hold."""

# What a request to a server may be.

MAX_REQUEST = 64 << 20
"""Bytes of a request's body unless more are allowed: 111 images of 224 pixels as float32."""

MAX_REQUEST_HEAD = 16 << 10
"""Bytes of the lines before a body; those of browsers have some 2,000."""

MAX_REQUEST_VALUES = 2_000_000
"""Numbers of a request in JSON, each of some 32 bytes in memory: 13 images of 224 pixels."""

MAX_REQUEST_TENSORS = 16
"""Tensors that go in, and that come out; a PVT takes one and answers at most four maps."""

MAX_REQUEST_TEXTS = 4096
"""Elements of a tensor of bytes: images, of which each becomes a model's input."""

MAX_REQUEST_PIXELS = 50_000_000
"""Pixels of an image in a request unless more are allowed: 150 MB decoded; cameras have as many."""

MAX_REQUEST_WHOLE = 16_000_000
"""Pixels of one that a graph resizes itself: each is 36 bytes on its way there."""

MAX_UNSAID = 4 << 30
"""Bytes of a file that is downloaded from a host that does not say how many it has: three times
PVT v2 b5 with Adam's moments.
"""

MAX_REQUEST_ID = 256
"""Characters of what a client calls its request."""

# What a pickle may do.

MAX_OPCODES = 2_000_000
"""Longest program that is run; the items that its calls are given count too.

A checkpoint of PVT v2 b5 with Adam's moments has about 130,000.
"""

MAX_COPIES = 16
"""How many times its own size a pickle may pass to calls: one that calls ``set`` on the same long
list over and over would take forever.
"""

LEAST_COPIED = 1 << 19
"""Bytes and items that any pickle may pass to calls, beside :data:`MAX_COPIES`."""

MAX_GROWTH = 8
"""How many times the size of its file the values of a pickle may take in memory, beside
:data:`SMALL`: one byte makes an empty set, of over 200. Beside tensors, a pickle is small.
"""

SMALL = 1 << 25
"""Bytes of memory that the values of any pickle may take: a log of some 30,000 steps does."""

MAX_PLACES = 1000
"""Dicts of tensors that a pickle may have, and entries beside tensors that are kept of it."""

# What a message says of a value.

MAX_LINE, MAX_MESSAGE = 2000, 20_000
"""Characters of a line of a message, and of all of it."""
