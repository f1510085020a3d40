"""From COCO's result rows to what a test loop gives the metric."""

import torch


def samples_of(content, rows, masks=None):
    """Return a sample for each image of a COCO file's content.

    The rows of ``masks`` are those of the same objects, with a mask in place of the box.
    """
    label = {category['id']: i for i, category in enumerate(content['categories'])}
    by_image = {image['id']: [] for image in content['images']}
    for n, row in enumerate(rows):
        by_image[row['image_id']].append(n)
    samples = []
    for image in content['images']:
        chosen = by_image[image['id']]
        boxes = torch.tensor([rows[n]['bbox'] for n in chosen], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        found = {
            'bboxes': boxes,
            'scores': torch.tensor([rows[n]['score'] for n in chosen], dtype=torch.float64),
            'labels': torch.tensor([label[rows[n]['category_id']] for n in chosen]).long(),
        }
        if masks:
            found['masks'] = [dict(masks[n]['segmentation']) for n in chosen]
        shape = image['height'], image['width']
        samples.append({'img_id': image['id'], 'ori_shape': shape, 'pred_instances': found})
    return samples
