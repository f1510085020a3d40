"""Getting COCO: what breaks on the way is resumed or named, and nothing is half there."""

import http.server
import io
import json
import re
import threading
import zipfile
from pathlib import Path

import pytest

from tresnet_det.datasets import archives, coco_download
from tresnet_det.datasets.coco_download import get_coco
from tresnet_det.errors import InputError


def make_zip(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, 'w', zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return data.getvalue()


def images(split: str, count: int) -> dict[str, bytes]:
    return {f'{split}2017/{i}.jpg': f'{split} {i} '.encode() * 500 for i in range(count)}


def instances(count: int) -> bytes:
    return json.dumps({'images': [{'file_name': f'{i}.jpg'} for i in range(count)]}).encode()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.files`; `server.behaviour` maps a path to what goes wrong with it."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.server.requests.append((self.path, self.headers.get('Range')))
        self.answer(body=True)

    def answer(self, body):
        data = self.server.files.get(self.path)
        behaviour = self.server.behaviour.get(self.path, '')
        if data is None:
            self.send_error(404)
            return
        if behaviour == 'moved':
            self.send_response(302)
            self.send_header('Location', '/elsewhere')
            self.end_headers()
            return
        if behaviour == 'no HEAD' and not body:
            self.send_error(403)
            return
        if isinstance(behaviour, list) and body and behaviour:
            self.send_error(behaviour.pop())
            return
        asked = re.fullmatch(r'bytes=(\d+)-', self.headers.get('Range', ''))
        start = int(asked[1]) if asked and behaviour != 'no ranges' else 0
        self.send_response(206 if start else 200)
        if start and behaviour != 'no Content-Range':
            self.send_header('Content-Range', f'bytes {start}-{len(data) - 1}/{len(data)}')
        if behaviour != 'no length':
            self.send_header('Content-Length', str(len(data) - start))
        self.end_headers()
        if body:
            end = start + 4000 if behaviour == 'breaks off' else None
            self.wfile.write(data[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(archives, 'PAUSE', 0)
    usage = coco_download.shutil.disk_usage('.')._replace(free=10**12)  # whatever is free here
    monkeypatch.setattr(coco_download.shutil, 'disk_usage', lambda path: usage)
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        server.files = {
            '/annotations/annotations_trainval2017.zip': make_zip(
                {
                    'annotations/instances_train2017.json': instances(3),
                    'annotations/instances_val2017.json': instances(2),
                    'annotations/captions_val2017.json': b'{}',
                }
            ),
            '/zips/train2017.zip': make_zip(images('train', 3)),
            '/zips/val2017.zip': make_zip(images('val', 2)),
        }
        server.behaviour, server.requests = {}, []
        server.url = f'http://127.0.0.1:{server.server_port}'
        thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob('*') if p.is_file())


WHOLE_COCO = [
    'annotations/captions_val2017.json',
    'annotations/instances_train2017.json',
    'annotations/instances_val2017.json',
    'train2017/0.jpg',
    'train2017/1.jpg',
    'train2017/2.jpg',
    'val2017/0.jpg',
    'val2017/1.jpg',
]


def test_everything_arrives_and_a_second_run_does_nothing(server, tmp_path):
    out = tmp_path / 'data/coco'
    assert get_coco(out, base_url=server.url) == {'train2017': 3, 'val2017': 2}
    assert names(out) == WHOLE_COCO
    for name, content in images('train', 3).items():
        assert (out / name).read_bytes() == content
    assert (out / 'train2017').stat().st_mode & 0o077  # not private to the user, as temporary are
    before = len(server.requests)
    assert get_coco(out, base_url=server.url) == {'train2017': 3, 'val2017': 2}
    assert len(server.requests) == before


def test_one_split_only_and_the_other_later(server, tmp_path):
    assert get_coco(tmp_path, splits=['val'], base_url=server.url) == {'val2017': 2}
    assert not (tmp_path / 'train2017').exists()
    get_coco(tmp_path, base_url=server.url + '/')
    assert [path for path, _ in server.requests] == [
        '/annotations/annotations_trainval2017.zip', '/zips/val2017.zip', '/zips/train2017.zip'
    ]  # fmt: skip


def test_archives_are_kept_on_request_and_used_again(server, tmp_path):
    get_coco(tmp_path, base_url=server.url, keep_archives=True)
    assert (tmp_path / 'val2017.zip').read_bytes() == server.files['/zips/val2017.zip']
    for file in (tmp_path / 'val2017').iterdir():
        file.unlink()
    before = len(server.requests)
    assert get_coco(tmp_path, base_url=server.url)['val2017'] == 2
    assert len(server.requests) == before


@pytest.mark.parametrize(
    ('behaviour', 'part', 'asked'),
    [
        ('', slice(1234), 'bytes=1234-'),
        ('', slice(None), None),  # complete: nothing is asked for
        ('', b'x' * 10**6, None),  # longer than the file
        ('no ranges', b'x' * 1234, 'bytes=1234-'),
        ('no length', b'x' * 10, None),
    ],
)
def test_a_partial_download_is_completed_or_started_over(server, tmp_path, behaviour, part, asked):
    path = '/zips/val2017.zip'
    server.behaviour[path] = behaviour
    part = server.files[path][part] if isinstance(part, slice) else part
    (tmp_path / 'val2017.zip.part').write_bytes(part)
    assert get_coco(tmp_path, splits=['val'], base_url=server.url) == {'val2017': 2}
    assert names(tmp_path / 'val2017') == ['0.jpg', '1.jpg']
    if asked:
        assert (path, asked) in server.requests
    assert (path in dict(server.requests)) == (part != server.files[path])


def test_a_connection_that_breaks_is_taken_up_again(server, tmp_path):
    server.behaviour['/zips/train2017.zip'] = 'breaks off'  # after 4000 bytes each time
    assert get_coco(tmp_path, base_url=server.url)['train2017'] == 3
    ranges = [r for path, r in server.requests if path == '/zips/train2017.zip']
    assert ranges[:3] == [None, 'bytes=4000-', 'bytes=8000-']


def test_a_connection_that_breaks_for_good_keeps_what_came(server, tmp_path, monkeypatch):
    def fetch(url, part, have, bar):
        part.write_bytes(b'12345')
        return TimeoutError('timed out')

    monkeypatch.setattr(archives, '_fetch_rest', fetch)
    with pytest.raises(InputError, match=r'no connection \(timed out\).* 5 bytes .*kept'):
        get_coco(tmp_path, base_url=server.url)
    assert names(tmp_path) == ['annotations_trainval2017.zip.part']


def test_a_corrupt_member_is_found_and_nothing_half_unpacked(server, tmp_path):
    data = server.files['/zips/val2017.zip']
    at = data.index(b'val 1 ')
    server.files['/zips/val2017.zip'] = data[:at] + b'X' + data[at + 1 :]
    with pytest.raises(InputError, match=r'val2017\.zip: corrupt \(Bad CRC-32.*delete it'):
        get_coco(tmp_path, splits=['val'], base_url=server.url)
    assert not (tmp_path / 'val2017').exists()
    assert not list(tmp_path.glob('.unpack*'))


@pytest.mark.parametrize('status', [408, 429, 503])
def test_a_server_that_is_busy_is_asked_again(server, tmp_path, status):
    server.behaviour['/zips/val2017.zip'] = [status, status]
    assert get_coco(tmp_path, splits=['val'], base_url=server.url) == {'val2017': 2}
    server.behaviour['/zips/train2017.zip'] = [status] * 99
    with pytest.raises(InputError, match=f'train2017.zip: the server answers {status}'):
        get_coco(tmp_path, splits=['train'], base_url=server.url)


def test_a_part_of_the_file_without_saying_which_is_one_line(server, tmp_path):
    server.behaviour['/zips/val2017.zip'] = 'no Content-Range'
    (tmp_path / 'val2017.zip.part').write_bytes(server.files['/zips/val2017.zip'][:1234])
    with pytest.raises(InputError, match=r'val2017\.zip: .* another range .* 1234 bytes .* kept'):
        get_coco(tmp_path, splits=['val'], base_url=server.url)


def test_the_official_server_may_refuse_to_say_the_size(server, tmp_path, monkeypatch):
    monkeypatch.setattr(coco_download, 'BASE_URL', server.url)
    sizes = {path.split('/')[-1]: len(data) for path, data in server.files.items()}
    monkeypatch.setattr(coco_download, 'SIZES', sizes)
    monkeypatch.setattr(coco_download, 'IMAGES', {'train2017': 3, 'val2017': 2})
    server.behaviour['/zips/val2017.zip'] = 'no HEAD'
    (tmp_path / 'val2017.zip.part').write_bytes(server.files['/zips/val2017.zip'][:1234])
    get_coco(tmp_path, splits=['val'], base_url=server.url + '/')
    assert ('/zips/val2017.zip', 'bytes=1234-') in server.requests


def test_what_a_killed_run_left_is_removed(server, tmp_path):
    (tmp_path / '.unpack-dead/val2017').mkdir(parents=True)
    (tmp_path / '.unpack-dead/val2017/0.jpg').write_bytes(b'half')
    get_coco(tmp_path, base_url=server.url)
    assert names(tmp_path) == WHOLE_COCO
    assert not (tmp_path / '.unpack-dead').exists()


@pytest.mark.parametrize('change', [Path.unlink, lambda path: path.write_bytes(b'')])
def test_images_deleted_or_emptied_later_are_named(server, tmp_path, change):
    get_coco(tmp_path, base_url=server.url)
    change(tmp_path / 'train2017/1.jpg')
    with pytest.raises(InputError, match=r'lacks 1 of 3 images .* the first is 1\.jpg'):
        get_coco(tmp_path, base_url=server.url)


VAL = '/zips/val2017.zip'


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda s: s.files.update({VAL: b'<html>log in</html>'}), r'val2017\.zip: corrupt'),
        (lambda s: s.files.pop(VAL), r'zips/val2017\.zip: the server answers 404'),
        (lambda s: s.behaviour.update({VAL: 'moved'}),
         '/elsewhere: the server answers 404.*--base-url names .*--year another year'),
        (lambda s: s.files.update({VAL: make_zip(images('val', 1))}),
         r'lacks 1 of 2 images .* the first is 1\.jpg'),
    ],
)  # fmt: skip
def test_what_the_server_does_wrong_is_named(server, tmp_path, change, message):
    change(server)
    with pytest.raises(InputError, match=message):
        get_coco(tmp_path, splits=['val'], base_url=server.url)
    assert not (tmp_path / 'val2017').exists()


def test_no_server_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with pytest.raises(InputError, match='no connection') as caught:
        get_coco(tmp_path, base_url='http://127.0.0.1:9')
    assert '\n' not in str(caught.value)


def test_too_small_a_disk_is_found_before_the_download(server, tmp_path, monkeypatch):
    usage = coco_download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(coco_download.shutil, 'disk_usage', lambda path: usage._replace(free=100))
    with pytest.raises(InputError, match='GB are free'):
        get_coco(tmp_path, base_url=server.url)
    assert not server.requests


def test_a_disk_that_fills_up_is_one_line(tmp_path):
    import errno

    with pytest.raises(InputError, match='disk is full'), archives._disk(tmp_path):
        raise OSError(errno.ENOSPC, 'No space left on device')


def test_annotations_of_ones_own_are_not_overwritten(server, tmp_path):
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/captions_val2017.json').write_text('mine')
    get_coco(tmp_path, base_url=server.url)
    assert (tmp_path / 'annotations/captions_val2017.json').read_text() == 'mine'
    assert names(tmp_path) == WHOLE_COCO


def test_the_official_server_is_held_to_the_official_figures(server, tmp_path, monkeypatch):
    monkeypatch.setattr(coco_download, 'BASE_URL', server.url)
    with pytest.raises(InputError, match='instead of 252907541'):
        get_coco(tmp_path, base_url=server.url)
    sizes = {path.split('/')[-1]: len(data) for path, data in server.files.items()}
    monkeypatch.setattr(coco_download, 'SIZES', sizes)
    with pytest.raises(InputError, match='names 3 images, COCO has 118287'):
        get_coco(tmp_path, base_url=server.url)
    monkeypatch.setattr(coco_download, 'IMAGES', {'train2017': 3, 'val2017': 2})
    assert get_coco(tmp_path, base_url=server.url) == {'train2017': 3, 'val2017': 2}


def test_the_tool_prints_what_came_or_one_line(server, tmp_path, run):
    options = ['--out-dir', tmp_path, '--splits', 'val']
    done = run('get_coco', *options, '--base-url', server.url)
    assert done.code == 0, done.err
    assert 'val2017: 2 images' in done.out
    assert run('get_coco', *options, '--base-url', 'nonsense', '--splits', 'train').error
