"""Any Pascal VOC file: the boxes in it come out, or one line says what is wrong with it."""

import json
import re
from collections import Counter
from xml.etree import ElementTree

import fuzz_mutations as fuzz
from hypothesis import given
from hypothesis import strategies as st

from tresnet_det.cli.voc_to_coco import voc_to_coco

OBJECT = '<object><name>{}</name>{}<bndbox>{}</bndbox></object>'
CORNERS = '<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax>'
XML = (
    b'<annotation><filename>a.png</filename><size><width>40</width><height>30</height></size>\n'
    b'<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>'
    b'<xmax>40</xmax><ymax>30</ymax></bndbox></object>\n'
    b'<object><name>dog</name><difficult>1</difficult><bndbox><ymin>5</ymin><xmin>6</xmin>'
    b'<xmax>14.5</xmax><ymax>13</ymax></bndbox></object></annotation>\n'
)
VALUES = (
    '', ' ', '0', '-1', '3', '39', '1e3', '1e400', 'nan', 'inf', '-inf', '1_0', '0x1', '٣', '1,5',
    'cat', 'None', '&amp;', '&lol;', '<a/>', '../../x', '9' * 400, 'ü',
)  # fmt: skip
BOMB = b'<!DOCTYPE x [<!ENTITY a "%s">%s]>\n' % (
    b'ha' * 50,
    b''.join(b'<!ENTITY %c "%s">' % (98 + i, b'&%c;' % (97 + i) * 10) for i in range(9)),
)
FOREIGN = b'<!DOCTYPE x [<!ENTITY lol SYSTEM "file:///etc/hostname">]>\n'


@st.composite
def files(draw):
    """Draw the bytes of an XML file, with faults in its elements or in its bytes."""
    if draw(st.integers(0, 2)) == 0:
        return draw(fuzz.broken_bytes(XML))
    text = XML
    for _ in range(draw(st.integers(0, 3))):
        spans = [m.span(1) for m in re.finditer(rb'>([^<>]+)</', text)]
        tags = [m.span() for m in re.finditer(rb'<[^<>]+>', text)]
        action = draw(st.sampled_from(('value', 'value', 'value', 'tag', 'object')))
        if action == 'value' and spans:
            a, b = draw(st.sampled_from(spans))
            text = text[:a] + draw(st.sampled_from(VALUES)).encode() + text[b:]
        elif action == 'tag' and tags:
            a, b = draw(st.sampled_from(tags))
            text = (
                text[:a]
                + draw(st.sampled_from((b'', b'<object>', b'</bndbox>', b'<name/>')))
                + text[b:]
            )
        else:
            values = [draw(st.sampled_from(VALUES + ('7', '12', '30'))) for _ in range(5)]
            more = OBJECT.format(values[0], '', CORNERS.format(*values[1:]))
            text = text.replace(b'</annotation>', more.encode() + b'</annotation>')
    return draw(st.sampled_from((b'',) * 8 + (BOMB, FOREIGN))) + text


def lay_out(root, data, how, list_data=b'a\nb\nc\n'):
    for name in 'abc':
        fuzz.place(root / f'JPEGImages/{name}.png', fuzz.IMAGE, 'file')
    fuzz.place(root / 'Annotations/a.xml', data, how)
    for name in 'bc':  # enough to keep one apart
        fuzz.place(
            root / f'Annotations/{name}.xml', XML.replace(b'a.png', b'%c.png' % ord(name)), 'file'
        )
    fuzz.place(root / 'ImageSets/Main/train.txt', list_data, 'file')


def reference(data):
    """Return (name, box, difficult) of every object with an area, clipped."""
    boxes = []
    for element in ElementTree.fromstring(data).iter('object'):
        a, b, c, d = (
            float(element.findtext(f'bndbox/{s}')) for s in ('xmin', 'ymin', 'xmax', 'ymax')
        )
        x0, y0, x1, y1 = max(a - 1, 0), max(b - 1, 0), min(c, 40), min(d, 30)
        if c <= a or d <= b or x1 <= x0 or y1 <= y0:
            continue
        crowd = (element.findtext('difficult') or '0').strip() not in ('', '0')
        boxes.append((element.findtext('name').strip(), (x0, y0, x1 - x0, y1 - y0), crowd))
    return boxes


def read(content):
    names = {category['id']: category['name'] for category in content['categories']}
    return Counter(
        (names[a['category_id']], tuple(map(float, a['bbox'])), bool(a['iscrowd']))
        for a in content['annotations']
    )


@given(fuzz.broken_bytes(b'a\nb\n'))
def test_fuzz_voc_list_of_images(data):
    with fuzz.folder() as root, fuzz.folder() as out:
        lay_out(root, XML, 'file', data)
        result = fuzz.attempt(lambda: voc_to_coco(root, out), root)
        if result is not None:
            content = json.loads(result['splits']['train']['file'].read_bytes())
            wanted = [f'{name}.png' for name in data.decode('utf-8-sig').split()]
            assert [image['file_name'] for image in content['images']] == wanted


@given(files(), st.sampled_from(fuzz.PLACE_FAULTS))
def test_fuzz_voc_as_a_folder_of_ones_own_and_in_the_check(data, how):
    with fuzz.folder() as root, fuzz.folder() as out:
        lay_out(root, data, how)

        result = fuzz.attempt(lambda: fuzz.prepare(root, out), root)
        report = fuzz.inspect(root)
        if result is None:
            assert report is None or report.failed
            return
        parts = [json.loads(split.ann_file.read_bytes()) for split in result.splits.values()]
        assert sum(map(read, parts), Counter()) == Counter(reference(data) + reference(XML) * 2)
